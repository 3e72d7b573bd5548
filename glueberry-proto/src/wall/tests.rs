use proptest::prelude::*;

use super::*;

fn time(text: &str) -> WallTime {
    text.parse().unwrap()
}

#[test]
fn names_of_times() {
    assert_eq!(time("0001-01-01T00:00:00Z"), WallTime::NEVER);
    assert_eq!(time("1970-01-01T00:00:00Z"), WallTime::UNIX_EPOCH);
    assert_eq!(time("9999-12-31T23:59:59.999999999Z"), WallTime::MAX);
    assert_eq!(time("0000-01-01T00:00:00Z").unix_seconds(), MIN_SECONDS);
    // Seconds as `date -u -d 2024-02-29T12:34:56Z +%s` counts them.
    assert_eq!(time("2024-02-29T12:34:56Z").unix_seconds(), 1_709_210_096);
}

#[test]
fn offsets_are_taken_off() {
    assert_eq!(time("2026-01-01T00:30:00+01:00"), time("2025-12-31T23:30:00Z"));
    assert_eq!(time("2026-01-01T00:30:00-05:45"), time("2026-01-01T06:15:00Z"));
    assert_eq!("0000-01-01T00:00:00+00:01".parse::<WallTime>(), Err(WallTimeError::OutOfRange));
    assert_eq!("9999-12-31T23:59:00-00:01".parse::<WallTime>(), Err(WallTimeError::OutOfRange));
}

#[test]
fn fractions_as_go_writes_them() {
    for text in ["2026-11-22T19:18:08.04725836Z", "2026-11-22T19:18:08.5Z", "2026-11-22T19:18:08Z"]
    {
        assert_eq!(time(text).to_string(), text);
    }
    let long = time("2026-11-22T19:18:08.0000000019999Z");
    assert_eq!(long.subsec_nanos(), 1);
}

#[test]
fn bad_texts() {
    for text in [
        "",
        "2026",
        "2026-11-22",
        "2026-11-22 19:18:08Z",
        "2026-11-22t19:18:08Z",
        "2026-11-22T19:18:08z",
        "2026-11-22T19:18:08",
        "2026-11-22T19:18:08.Z",
        "2026-11-22T19:18:08,5Z",
        "2026-11-22T9:18:08Z",
        "2026-11-22T19:18:08+0100",
        "2026-11-22T19:18:08+01:00 ",
        "+026-11-22T19:18:08Z",
        "２026-11-22T19:18:08Z",
    ] {
        assert_eq!(text.parse::<WallTime>(), Err(WallTimeError::Syntax), "{text:?}");
    }
    for text in [
        "2026-13-22T19:18:08Z",
        "2026-00-22T19:18:08Z",
        "2026-02-29T19:18:08Z",
        "2026-04-31T19:18:08Z",
        "2026-04-00T19:18:08Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T19:60:08Z",
        "2026-11-22T19:18:60Z",
        "2026-11-22T19:18:08+24:00",
        "2026-11-22T19:18:08+01:60",
    ] {
        assert_eq!(text.parse::<WallTime>(), Err(WallTimeError::OutOfRange), "{text:?}");
    }
}

#[test]
fn adding_carries_and_saturates() {
    let almost = WallTime::from_unix(-1, 999_999_999).unwrap();
    assert_eq!(almost + Duration::from_nanos(1), WallTime::UNIX_EPOCH);
    assert_eq!(WallTime::NEVER + Duration::MAX, WallTime::MAX);
    assert_eq!(WallTime::MAX + Duration::from_nanos(1), WallTime::MAX);
}

#[test]
fn what_is_no_time() {
    assert_eq!(WallTime::from_unix(0, NANOS), None);
    assert_eq!(WallTime::from_unix(MIN_SECONDS - 1, 0), None);
    assert_eq!(WallTime::from_unix(MAX_SECONDS + 1, 0), None);
    assert_eq!(WallTime::from_unix(i64::MIN, 0), None);
}

/// Every day of 800 years follows the one before, by a calendar kept by hand.
#[test]
fn every_day_follows() {
    let (mut year, mut month, mut day) = (1600, 1, 1);
    for number in days(1600, 1, 1)..days(2400, 1, 1) {
        assert_eq!(civil(number), (year, month, day));
        assert_eq!(days(year, month, day), number);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > last {
            (month, day) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
}

proptest! {
    #[test]
    fn text_round_trips(seconds in MIN_SECONDS..=MAX_SECONDS, nanos in 0..NANOS) {
        let time = WallTime::from_unix(seconds, nanos).unwrap();
        prop_assert_eq!(time.to_string().parse(), Ok(time));
    }

    #[test]
    fn order_is_that_of_time(seconds in MIN_SECONDS..MAX_SECONDS, nanos in 0..NANOS, more in 1..u64::MAX) {
        let time = WallTime::from_unix(seconds, nanos).unwrap();
        let later = time + Duration::from_nanos(more);
        prop_assert!(later > time);
        if later < WallTime::MAX {
            prop_assert_eq!(later.duration_since(time), Duration::from_nanos(more));
        }
        prop_assert_eq!(time.duration_since(later), Duration::ZERO);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9TZ:.+-]{0,40}|\\PC{0,20}") {
        if let Ok(time) = text.parse::<WallTime>() {
            prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
