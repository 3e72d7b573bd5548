"""The copy of the work tree in which hunts break the code, build it and try the checks on it."""

import fcntl
import os
import re
import signal
import subprocess
from pathlib import Path

HUNTS = Path(__file__).resolve().parent
ROOT = HUNTS.parent
WORK = ROOT / "target" / "hunts"
TREE = WORK / "tree"
BUILT = WORK / "built"


def lock():
    """Returns what keeps other hunts away for as long as it is open: two at once would build each
    other's changes."""
    WORK.mkdir(parents=True, exist_ok=True)
    file = open(WORK / "lock", "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def apply(diff, *options):
    """Changes the copy as the text of a diff says."""
    # Without the ceiling git would take the tree for a folder of the repository around it, and
    # pass over files that it does not look for there.
    environment = dict(os.environ, GIT_CEILING_DIRECTORIES=str(WORK))
    return subprocess.run(["git", "apply", *options, "-"], cwd=TREE, env=environment,
                          input=diff.encode(), capture_output=True)


def cargo(command, *arguments, **settings):
    # Compiled apart from other builds, which have debug information.
    environment = dict(os.environ, CARGO_TARGET_DIR=str(BUILT), CARGO_PROFILE_DEV_DEBUG="none",
                       CARGO_INCREMENTAL="0")
    environment.update(settings)
    return subprocess.run(["cargo", command, "--quiet", "--locked", *arguments], cwd=TREE,
                          env=environment, capture_output=True, text=True)


def build_simulator(**settings):
    # Cargo takes the copy's packages for the work tree's, which share the folder: without a setting of
    # their own, what was broken would be run as the simulator of the work tree.
    own = "profile.quick.package.glueberry-proto.codegen-units=15"
    return cargo("build", "--config", own, "--profile", "quick", "-p", "glueberry-sim", "--bin",
                 "glueberry-sim", **settings)


def search(seconds, *arguments):
    """Returns the exit code of a search by the simulator, or None if it hangs; what it has printed;
    and a match of what it has found, if anything."""
    program = BUILT / "quick" / "glueberry-sim"
    # A violation that the simulator's watcher sees comes half a minute after the last sign of life.
    code, out = run_for([program, "search", *arguments, "--seconds", str(seconds)], seconds + 60)
    return code, out, re.search(r"violated=(\w+) .*seeds=(\d+) ms=(\d+)", out)


def run_for(command, seconds, cwd=TREE, cases=512):
    """Returns the exit code, or None if it takes longer than that, and the output."""
    # Properties are tried on more runs than usual, always the same; the one that fails is not shrunk.
    environment = dict(os.environ, PROPTEST_CASES=str(cases), PROPTEST_RNG_SEED="1",
                       PROPTEST_MAX_SHRINK_ITERS="0")
    process = subprocess.Popen([str(word) for word in command], cwd=cwd, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, errors="replace", start_new_session=True)
    try:
        out, _ = process.communicate(timeout=seconds)
        return process.returncode, out
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]


def export():
    """Makes the copy equal to the work tree. Files that are equal keep their times, so that cargo
    builds again only what depends on a patch."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split(b"\0")
    files = {os.fsdecode(name) for name in listed if name and (ROOT / os.fsdecode(name)).is_file()}
    for name in files:
        source, copy = ROOT / name, TREE / name
        content = source.read_bytes()
        if not copy.is_file() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            copy.chmod(source.stat().st_mode)
    for path in TREE.rglob("*"):
        if path.is_file() and str(path.relative_to(TREE)) not in files:
            path.unlink()


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout


def indent(text):
    return "".join(f"    {line}\n" for line in text.splitlines()[-30:])
