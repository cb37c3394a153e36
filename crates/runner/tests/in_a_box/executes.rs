//! Ways to execute, tried by the scripted agent: each in a child of its own, so that one that goes through ends only that.
//! One that gets no answer ends the agent, whose last words name it.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    fn fork() -> c_int;
    fn vfork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn mmap(at: *mut c_void, length: usize, prot: c_int, flags: c_int, fd: c_int, from: i64) -> *mut c_void;
    fn _exit(status: c_int) -> !;
    fn alarm(seconds: u32) -> u32;
    fn close(fd: c_int) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> *mut c_void;
    fn write(fd: c_int, from: *const c_char, length: usize) -> isize;
    fn strlen(text: *const c_char) -> usize;
}

#[cfg(target_arch = "x86_64")]
mod numbers {
    pub const MEMFD_CREATE: i64 = 319;
    pub const EXECVEAT: i64 = 322;
    pub const PERSONALITY: i64 = 135;
    pub const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
}
#[cfg(target_arch = "aarch64")]
mod numbers {
    pub const MEMFD_CREATE: i64 = 279;
    pub const EXECVEAT: i64 = 281;
    pub const PERSONALITY: i64 = 92;
    pub const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
}
use numbers::{EXECVEAT, LOADER, MEMFD_CREATE, PERSONALITY};

const AT_EMPTY_PATH: c_int = 0x1000;
const O_TMPFILE: c_int = 0o20_000_000 | 0o200_000;
const O_PATH: c_int = 0o10_000_000;
const READ_IMPLIES_EXEC: c_long = 0x0040_0000;
const SIGALRM: c_int = 14;
/// How this program ends when a way hangs.
const HUNG_STATUS: c_int = 70;
/// The argument by which this program, executed once more, is told to say so and end.
pub const AGAIN: &str = "again";
/// How it ends then.
pub const AGAIN_STATUS: i32 = 77;

/// Every way that must meet a refusal.
pub const WAYS: [&str; 18] = [
    "bin",
    "spawn",
    "vfork",
    "loader",
    "loader-own",
    "link",
    "copy",
    "copy-in-scratch",
    "copy-in-shared-memory",
    "shebang",
    "descriptor",
    "empty-path",
    "path-descriptor",
    "unnamed-file",
    "memfd",
    "personality",
    "own",
    "init",
];

/// Seconds in which a way has an answer, on however busy a machine: a refusal takes none of them.
const ANSWER_SECS: u32 = 20;
/// What is said of the way under way when its time is over.
static HANGS: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// What a way met: an error number; 0 when something was executed, [`AGAIN_STATUS`] when that was this program.
pub fn attempt(way: &str) -> i32 {
    // The one that never ends shows that this is seen.
    let seconds = if way == "never" { 1 } else { ANSWER_SECS };
    let words = CString::new(format!("{way}: no answer in {seconds} s\n")).unwrap();
    HANGS.store(words.into_raw(), Ordering::SeqCst);
    // SAFETY: a handler that only writes and exits. Children have no alarm.
    unsafe {
        signal(SIGALRM, hung);
        alarm(seconds);
    }
    let met = attempted(way);
    // SAFETY: a number.
    unsafe { alarm(0) };
    met
}

extern "C" fn hung(_: c_int) {
    let words = HANGS.load(Ordering::SeqCst);
    // SAFETY: a text that is never freed; both calls may be made in a handler.
    unsafe {
        write(2, words, strlen(words));
        _exit(HUNG_STATUS);
    }
}

fn attempted(way: &str) -> i32 {
    let program = std::fs::read("/proc/self/exe").unwrap_or_default();
    match way {
        "bin" => in_a_child(|| exec("/usr/bin/true", &[])),
        "copy" => in_a_child(|| exec(&written("/workspace/copy", &program), &[AGAIN])),
        "copy-in-scratch" => in_a_child(|| exec(&written("/tmp/copy", &program), &[AGAIN])),
        "copy-in-shared-memory" => in_a_child(|| exec(&written("/dev/shm/copy", &program), &[AGAIN])),
        "shebang" => in_a_child(|| exec(&written("/workspace/script", b"#!/run/volary/agent again\n"), &[])),
        "loader" => in_a_child(|| exec(LOADER, &["/usr/bin/true"])),
        "loader-own" => in_a_child(|| exec(LOADER, &["/run/volary/agent", AGAIN])),
        "link" => in_a_child(|| {
            std::os::unix::fs::symlink("/usr/bin/true", "/workspace/link").ok();
            exec("/workspace/link", &[])
        }),
        "descriptor" => in_a_child(|| {
            let file = std::fs::File::open(written("/workspace/by-descriptor", &program)).unwrap();
            exec(&format!("/proc/self/fd/{}", file.as_raw_fd()), &[AGAIN])
        }),
        "empty-path" => in_a_child(|| {
            let file = std::fs::File::open(written("/workspace/by-number", &program)).unwrap();
            exec_descriptor(file.as_raw_fd())
        }),
        "path-descriptor" => in_a_child(|| {
            let mut how = std::fs::OpenOptions::new();
            let file = how.read(true).custom_flags(O_PATH).open("/usr/bin/true").unwrap();
            exec_descriptor(file.as_raw_fd())
        }),
        "unnamed-file" => in_a_child(|| {
            let mut how = std::fs::OpenOptions::new();
            let file = how.read(true).write(true).mode(0o700).custom_flags(O_TMPFILE).open("/workspace").unwrap();
            std::io::Write::write_all(&mut &file, &program).unwrap();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            // What is open for writing is busy.
            let read = std::fs::File::open(path).unwrap();
            drop(file);
            exec(&format!("/proc/self/fd/{}", read.as_raw_fd()), &[AGAIN])
        }),
        "memfd" => in_a_child(|| {
            // SAFETY: a name that outlives the call.
            let fd = unsafe { syscall(MEMFD_CREATE, c"x".as_ptr(), 0) };
            if fd < 0 {
                return errno();
            }
            let path = written(&format!("/proc/self/fd/{fd}"), &program);
            let read = std::fs::File::open(path).unwrap();
            // SAFETY: a descriptor of our own, used no more.
            unsafe { close(fd as c_int) };
            exec_descriptor(read.as_raw_fd())
        }),
        // SAFETY: a number.
        "personality" => {
            in_a_child(|| if unsafe { syscall(PERSONALITY, READ_IMPLIES_EXEC) } < 0 { errno() } else { 0 })
        }
        "spawn" => match std::process::Command::new("/usr/bin/true").status() {
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(-1),
        },
        "vfork" => by_vfork(c"/usr/bin/true"),
        "init" => in_a_child(|| exec("/proc/1/exe", &[AGAIN])),
        "own" => in_a_child(|| exec("/proc/self/exe", &[AGAIN])),
        "never" => in_a_child(|| loop {
            std::thread::park();
        }),
        "map" => in_a_child(|| {
            let file = std::fs::File::open(written("/workspace/mapped", &program)).unwrap();
            // SAFETY: a private mapping of a file that is open, used by nobody.
            let at = unsafe { mmap(std::ptr::null_mut(), 4096, 5, 2, file.as_raw_fd(), 0) };
            if at as isize == -1 { errno() } else { 0 }
        }),
        other => panic!("{other}"),
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

/// Writes a program that its mode lets everyone execute, and gives its path.
fn written(path: &str, content: &[u8]) -> String {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

/// Executes; returns only when refused.
fn exec(path: &str, args: &[&str]) -> i32 {
    let mut command = std::process::Command::new(path);
    // What runs must neither read what the runner says nor speak to it.
    command.args(args).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.exec().raw_os_error().unwrap_or(-1)
}

fn exec_descriptor(fd: c_int) -> i32 {
    let argv = [c"x".as_ptr(), c"again".as_ptr(), std::ptr::null()];
    let none: [*const c_char; 1] = [std::ptr::null()];
    // SAFETY: lists that end with null, of strings that outlive the call.
    unsafe { syscall(EXECVEAT, fd, c"".as_ptr(), argv.as_ptr(), none.as_ptr(), AT_EMPTY_PATH) };
    errno()
}

fn by_vfork(path: &CStr) -> i32 {
    let own = CString::from(path);
    let argv = [own.as_ptr(), std::ptr::null()];
    // SAFETY: the child executes or exits, and calls nothing else.
    unsafe {
        let pid = vfork();
        if pid == 0 {
            execv(own.as_ptr(), argv.as_ptr());
            _exit(errno());
        }
        status(pid)
    }
}

fn in_a_child(what: impl FnOnce() -> i32) -> i32 {
    // SAFETY: one thread; the child ends in this function.
    let pid = unsafe { fork() };
    if pid == 0 {
        std::process::exit(what());
    }
    status(pid)
}

/// How a child ended: its status, or 1000 and the signal.
fn status(pid: c_int) -> i32 {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    unsafe { waitpid(pid, &mut status, 0) };
    if status & 0x7f == 0 { status >> 8 & 0xff } else { 1000 + (status & 0x7f) }
}
