//! The machine that boots under qemu, put together from this machine's own files: a system tree as a bare
//! Debian has it, the volary program, and the scripts to run. No image is fetched.

use crate::cpio::Tree;
use crate::{cargo, machine};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs of the system tree. Those that this machine lacks are left out, unless a test needs them.
const PROGRAMS: &str = "sh bash cat ls cp mv rm mkdir rmdir ln chmod chown head tail wc sort tr cut seq sleep echo \
    printf env id true false touch stat dd du df date uname mktemp timeout readlink realpath tee sha256sum base64 \
    mkfifo test [ grep sed awk find xargs diff cmp git mount umount losetup mke2fs mkfs.ext4 setpriv unshare nsenter ps \
    newuidmap newgidmap pivot_root pgrep";

/// Programs that a guest with systemd and Docker has beside those: what each of the two needs to run here.
const WITH_DOCKER: &str = "systemctl curl dockerd containerd containerd-shim-runc-v2 runc \
    apparmor_parser";

/// Which machine is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// A bare system, whose first process runs the tests.
    Bare,
    /// One whose first process is systemd, which keeps all control groups, with a Docker engine that leaves them to it.
    /// All claims are made by the whole; without it, those that need no more than three minutes.
    Docker {
        /// The scripts `NAME.whole.sh` too.
        whole: bool,
    },
}

/// Kernel modules that are not built into Debian's kernel and that boxes or their tests use.
const MODULES: [&str; 4] = ["overlay", "loop", "crc32c_generic", "ext4"];

/// Where everything of the guest stands until its first process moves it to `/`.
///
/// An initramfs cannot be pivoted away from, and a container's first act is `pivot_root`: so the guest's root is
/// a mount of its own.
const TREE: &str = "/tree";

/// Builds the archive at `to`: kernel modules from `kernel`, the program `volary`, and these scripts and C sources.
///
/// # Errors
/// When something cannot be read, compiled or written; names it.
pub fn build(guest: Guest, to: &Path, kernel: &Path, volary: &Path, tests: &[PathBuf], scratch: &Path) -> Result<()> {
    let mut tree = Tree::default();
    for folder in ["dev", "proc", "sys", "run", "root", "home", "mnt", "var/lib", "tests", "opt/volary"] {
        tree.folder(&format!("{TREE}/{folder}"), 0o755);
    }
    tree.folder(&format!("{TREE}/tmp"), 0o1777);
    for folder in ["bin", "sbin", "lib", "lib64"] {
        tree.folder(&format!("{TREE}/usr/{folder}"), 0o755);
        tree.link(&format!("{TREE}/{folder}"), &format!("usr/{folder}"));
    }
    for program in PROGRAMS.split_whitespace() {
        if let Some(file) = machine::find(program) {
            add_program(&mut tree, &file, None)?;
        }
    }
    match guest {
        Guest::Bare => {
            add_compiler(&mut tree)?;
            tree.link(&format!("{TREE}/usr/sbin/init"), "/tests/run");
        }
        Guest::Docker { .. } => add_systemd(&mut tree)?,
    }
    add_config(&mut tree);
    add_program(&mut tree, &stripped(volary, scratch)?, Some("/opt/volary/volary"))?;

    let own = cargo::root().join("xtask/qemu");
    let busybox = machine::find("busybox").context("busybox is gone")?;
    if !libraries(&busybox)?.is_empty() {
        bail!("{} is not static: install busybox-static", busybox.display());
    }
    tree.copy("/bin/busybox", 0o755, &busybox);
    // What images of the tests are made of.
    tree.copy(&format!("{TREE}/tests/busybox"), 0o755, busybox);
    tree.copy("/init", 0o755, own.join("init.sh"));
    add_modules(&mut tree, kernel)?;
    tree.copy(&format!("{TREE}/tests/run"), 0o755, own.join("run.sh"));
    tree.copy(&format!("{TREE}/tests/claims"), 0o644, own.join("claims.sh"));
    for test in tests {
        let stem = test.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match test.extension().and_then(|ext| ext.to_str()) {
            Some("sh") => tree.copy(&format!("{TREE}/tests/{stem}.sh"), 0o755, test),
            Some("c") => tree.copy(&format!("{TREE}/tests/{stem}"), 0o755, compiled(test, &stem, scratch)?),
            None => tree.copy(&format!("{TREE}/tests/{stem}"), 0o644, test),
            _ => bail!("{} is neither a script nor C", test.display()),
        }
    }
    let mut file = std::io::BufWriter::new(std::fs::File::create(to)?);
    tree.write(&mut file)?;
    std::io::Write::flush(&mut file)?;
    Ok(())
}

/// Names and certificates: what a bare system has in `/etc`.
fn add_config(tree: &mut Tree) {
    let passwd =
        "root:x:0:0::/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    for (name, text) in [
        ("passwd", passwd),
        ("group", "root:x:0:\ntester:x:1000:\nnogroup:x:65534:\n"),
        ("subuid", "tester:100000:65536\n"),
        ("subgid", "tester:100000:65536\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("hostname", "qemu\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ("resolv.conf", ""),
    ] {
        tree.bytes(&format!("{TREE}/etc/{name}"), 0o644, text.as_bytes());
    }
    let roots = "/etc/ssl/certs/ca-certificates.crt";
    if Path::new(roots).exists() {
        tree.copy(&format!("{TREE}{roots}"), 0o644, roots);
    }
}

/// systemd as the first process, Docker as one of its services, and the tests as another.
fn add_systemd(tree: &mut Tree) -> Result<()> {
    for program in WITH_DOCKER.split_whitespace() {
        let file = machine::find(program).with_context(|| format!("{program} is gone"))?;
        add_program(tree, &file, None)?;
    }
    let systemd = "/usr/lib/systemd/systemd";
    add_program(tree, Path::new(systemd), None).context("install systemd")?;
    // Later ones start their services by this.
    let executor = Path::new("/usr/lib/systemd/systemd-executor");
    if executor.is_file() {
        add_program(tree, executor, None)?;
    }
    tree.link(&format!("{TREE}/usr/sbin/init"), systemd);
    tree.link(&format!("{TREE}/var/run"), "/run");
    // Docker's own profile of AppArmor, which Debian's kernel has, is made of these.
    let own = ["/etc/apparmor", "/etc/apparmor.d/abi", "/etc/apparmor.d/abstractions", "/etc/apparmor.d/tunables"];
    for folder in own.into_iter().chain(["/usr/share/apparmor-features"]) {
        let mut files = Vec::new();
        walk(Path::new(folder), &mut files).context("install apparmor")?;
        for file in files {
            tree.copy(&format!("{TREE}{}", file.display()), 0o644, file);
        }
    }
    tree.copy(&format!("{TREE}/usr/lib/os-release"), 0o644, "/usr/lib/os-release");
    let units = cargo::root().join("xtask/qemu/systemd");
    for unit in std::fs::read_dir(&units).with_context(|| format!("reading {}", units.display()))? {
        let unit = unit?.path();
        let name = unit.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tree.copy(&format!("{TREE}/etc/systemd/system/{name}"), 0o644, unit);
    }
    Ok(())
}

/// A C compiler, as a machine has it on which `volary demo` is said to work: its passes, the C library's headers
/// and what programs are linked with.
fn add_compiler(tree: &mut Tree) -> Result<()> {
    let asked = |what: String| -> Result<PathBuf> {
        let said = cargo::output(Command::new("cc").arg(&what)).with_context(|| format!("cc {what}"))?;
        Ok(PathBuf::from(String::from_utf8_lossy(&said).trim()))
    };
    for program in ["cc", "as", "ld"] {
        let file = machine::find(program).with_context(|| format!("{program} is gone"))?;
        let place = real_place(&file)?;
        add_program(tree, &file, Some(&place))?;
    }
    for pass in ["cc1", "collect2"] {
        let file = asked(format!("-print-prog-name={pass}"))?;
        add_program(tree, &file, None)?;
    }
    let own = asked("-print-file-name=crtbegin.o".into())?.canonicalize()?;
    let own = own.parent().context("crtbegin.o stands nowhere")?;
    let mut parts = Vec::new();
    walk(&own.join("include"), &mut parts)?;
    for part in std::fs::read_dir(own)? {
        let part = part?.path();
        let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("libgcc") || name.starts_with("crt") || name.starts_with("liblto_plugin") {
            parts.push(part);
        }
    }
    let listed = cargo::output(Command::new("dpkg-query").args(["-L", "libc6-dev", "linux-libc-dev"]))
        .context("the C library's own files")?;
    for file in String::from_utf8_lossy(&listed).lines() {
        let wanted = file.starts_with("/usr/include/") || file.starts_with("/usr/lib/");
        if wanted && !file.ends_with("/libc.a") && Path::new(file).is_file() {
            parts.push(PathBuf::from(file));
        }
    }
    for part in parts {
        let place = real_place(&part)?;
        tree.copy(&format!("{TREE}{place}"), 0o644, part);
    }
    // What a `libc.so` of the linker's script language names, and what stands beside it, is here by its own name.
    for library in ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libmvec.so.1"] {
        let file = asked(format!("-print-file-name={library}"))?;
        let place = real_place(&file)?;
        tree.copy(&format!("{TREE}{place}"), 0o755, file);
    }
    Ok(())
}

/// Adds a program at its own place (or at `place`) and every library it is linked to.
fn add_program(tree: &mut Tree, file: &Path, place: Option<&str>) -> Result<()> {
    let place = match place {
        Some(place) => place.to_owned(),
        None => real_place(file)?,
    };
    tree.copy(&format!("{TREE}{place}"), 0o755, file);
    for library in libraries(file)? {
        let place = format!("{TREE}{}", real_place(&library)?);
        if !tree.has(&place) {
            tree.copy(&place, 0o755, library);
        }
    }
    Ok(())
}

/// A file's path with the links of its folder resolved (`/bin/sh` is `/usr/bin/sh`), but not its own.
fn real_place(file: &Path) -> Result<String> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let folder = folder.canonicalize().with_context(|| format!("following {}", folder.display()))?;
    Ok(folder.join(file.file_name().unwrap_or_default()).to_string_lossy().into_owned())
}

/// What a program is linked to, its loader among it; empty for a static one and for a script.
fn libraries(file: &Path) -> Result<Vec<PathBuf>> {
    let out = Command::new("ldd").arg(file).output().context("ldd cannot start")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", file.display(), line.trim());
    }
    Ok(text.lines().filter_map(|l| l.split_whitespace().find(|w| w.starts_with('/'))).map(PathBuf::from).collect())
}

/// The program without its symbols: a tenth of the size, and the guest's memory is what it lies in.
fn stripped(program: &Path, scratch: &Path) -> Result<PathBuf> {
    let small = scratch.join("volary");
    cargo::finish(Command::new("strip").arg("-o").arg(&small).arg(program))?;
    Ok(small)
}

fn compiled(source: &Path, stem: &str, scratch: &Path) -> Result<PathBuf> {
    let program = scratch.join(stem);
    let mut cc = Command::new("cc");
    cc.args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(source);
    let shared = source.with_file_name("attack.h");
    if shared.exists() {
        // None of these uses all of it, and the guest may be emulated.
        cc.args(["-Wno-unused", "-DREFUSAL_MS=5000", "-include"]).arg(shared);
    }
    cargo::finish(&mut cc)?;
    Ok(program)
}

/// Adds [`MODULES`] with what they depend on, and the order in which to load them.
fn add_modules(tree: &mut Tree, kernel: &Path) -> Result<()> {
    let mut all = Vec::new();
    walk(&kernel.join("lib/modules"), &mut all)?;
    let named = |name: &str| all.iter().find(|path| module_name(path).as_deref() == Some(name));
    let mut order: Vec<PathBuf> = Vec::new();
    let mut seen = BTreeSet::new();
    // Depth first: what a module depends on stands before it.
    fn visit<'a>(
        name: &str,
        named: &impl Fn(&str) -> Option<&'a PathBuf>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<PathBuf>,
    ) -> Result<()> {
        // A name without a file is built into the kernel.
        let (true, Some(file)) = (seen.insert(name.to_owned()), named(name)) else { return Ok(()) };
        for below in depends(&plain(file)?) {
            visit(&below, named, seen, order)?;
        }
        order.push(file.clone());
        Ok(())
    }
    for name in MODULES {
        visit(name, &named, &mut seen, &mut order)?;
    }
    let mut list = String::new();
    for file in &order {
        let name = module_name(file).unwrap_or_default();
        tree.bytes(&format!("/modules/{name}.ko"), 0o644, &plain(file)?);
        list.push_str(&format!("{name}\n"));
    }
    tree.bytes("/modules/order", 0o644, list.as_bytes());
    Ok(())
}

/// A module's name as the kernel says it: the file's name up to `.ko`, with `_` for `-`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    Some(file.split_once(".ko")?.0.replace('-', "_"))
}

/// A module's bytes, unpacked if Debian packed it.
fn plain(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|ext| ext == "xz") {
        return cargo::output(Command::new("xz").args(["-dc"]).arg(file));
    }
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// The `depends=` line of a module's `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let line = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(line)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        let module = b"\x7fELF\0alias=x\0depends=mbcache,jbd2,crc-16\0retpoline=Y\0";
        assert_eq!(depends(module), ["mbcache", "jbd2", "crc_16"]);
        assert_eq!(depends(b"\0depends=\0"), Vec::<String>::new());
    }

    #[test]
    fn a_module_keeps_its_name_however_it_is_packed() {
        for file in ["dm-mod.ko", "dm-mod.ko.xz"] {
            assert_eq!(module_name(Path::new(file)).as_deref(), Some("dm_mod"));
        }
        assert_eq!(module_name(Path::new("modules.dep")), None);
    }
}
