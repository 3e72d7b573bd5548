//! Two nodes on a Cortex-M4 without an operating system: the example `page` of the core, which has
//! neither `std` nor a thread nor a clock. They hold the handshake, exchange messages and end in order.
//!
//! A device draws its seeds from its hardware's generator and never uses one twice. These are fixed, so
//! that each run is the same.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

// It has the critical section that the allocator needs.
use cortex_m as _;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};

#[path = "../../glueberry-proto/examples/page/nodes.rs"]
mod nodes;

use nodes::Random;

#[global_allocator]
static HEAP: emballoc::Allocator<HEAP_LEN> = emballoc::Allocator::new();

#[entry]
fn main() -> ! {
    let random = |byte| Random { secret: [byte; 32], seed: [byte; 32] };
    let end = match nodes::run([random(1), random(2)]) {
        Ok(report) => {
            hprintln!("{:?}", report);
            report.echoes == nodes::MESSAGES && report.in_doubt == 0
        }
        Err(error) => {
            hprintln!("failed: {}", error);
            false
        }
    };
    exit(end)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}

/// Ends the program, with the exit code of QEMU.
fn exit(is_good: bool) -> ! {
    loop {
        debug::exit(if is_good { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    }
}

/// In bytes.
const HEAP_LEN: usize = 512 << 10;
