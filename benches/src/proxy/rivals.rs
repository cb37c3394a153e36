//! The proxies of Debian, each as its package brings it, with its log on and no cache.

use super::origin::{HOST, REGISTRY, World};
use super::{Proxy, client};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Makes one ready.
type Start = fn(&Path, &World) -> Result<Proxy>;

/// All of them, and the packages that bring them.
pub const ALL: [(&str, Start); 3] = [("squid", squid), ("tinyproxy", tinyproxy), ("mitmproxy", mitmproxy)];

/// Processes that end with this.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if child.kill().and_then(|()| child.wait()).is_err() {
                eprintln!("process {} could not be ended", child.id());
            }
        }
    }
}

fn find(program: &str) -> Result<PathBuf> {
    let dirs = ["/usr/sbin", "/usr/bin", "/usr/lib/squid"];
    let found = dirs.iter().map(|dir| Path::new(dir).join(program)).find(|file| file.is_file());
    found.with_context(|| format!("no {program} on this machine"))
}

/// A folder that any account may write in.
fn open_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
    Ok(())
}

fn start(mut command: Command, log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("{:?}", command.get_program()))
}

/// Waits until a port is served.
fn served(running: &mut Running, port: u16, log: &Path) -> Result<SocketAddr> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let end = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        let ended = running.0.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)));
        if ended || Instant::now() > end {
            let said = fs::read_to_string(log).unwrap_or_default();
            bail!("it does not start: {}", said.lines().rev().take(3).collect::<Vec<_>>().join("; "));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(address)
}

fn squid(dir: &Path, world: &World) -> Result<Proxy> {
    let squid = find("squid")?;
    let dir = dir.join("squid");
    open_folder(&dir)?;
    let at = |name: &str| dir.join(name).display().to_string();
    // The package `squid` is built without TLS; `squid-openssl` takes its place.
    let version = Command::new(&squid).arg("-v").output()?.stdout;
    let opens = String::from_utf8_lossy(&version).contains("--with-openssl");
    let mut config = format!(
        "http_port 127.0.0.1:3128\nhttp_access allow all\ncache deny all\ncache_mem 8 MB\nvisible_hostname bench\n\
         access_log stdio:{}\ncache_log {}\npid_filename {}\ncoredump_dir {}\nshutdown_lifetime 0 seconds\n",
        at("access.log"),
        at("cache.log"),
        at("pid"),
        at("")
    );
    if opens {
        let maker = find("security_file_certgen")?;
        let made = Command::new(&maker).args(["-c", "-s", &at("certificates"), "-M", "16MB"]).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
        ensure!(Command::new("chmod").args(["-R", "a+rwX", &at("certificates")]).status()?.success(), "chmod");
        config.push_str(&format!(
            "http_port 127.0.0.1:3129 ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=16MB tls-cert={}\n\
             sslcrtd_program {} -s {} -M 16MB\nacl first at_step SslBump1\nssl_bump peek first\nssl_bump bump all\n\
             tls_outgoing_options cafile={}\n",
            world.proxy_authority.display(),
            maker.display(),
            at("certificates"),
            world.roots.display()
        ));
    }
    fs::write(dir.join("conf"), config)?;
    let mut command = Command::new(squid);
    command.args(["-N", "-f", &at("conf")]);
    let log = dir.join("out");
    let mut running = Running(vec![start(command, &log)?]);
    let plain = served(&mut running, 3128, &log)?;
    let bump = if opens { Some(served(&mut running, 3129, &log)?) } else { None };
    Ok(Proxy {
        name: "squid".to_owned(),
        plain: Some(client::plain(plain)),
        tunnel: Some(client::secure(plain, REGISTRY, &world.pem, "")?),
        intercepted: bump.map(|bump| client::secure(bump, HOST, &world.proxy_pem, "")).transpose()?,
        injected: None,
        written: None,
        _runs: Box::new(running),
    })
}

fn tinyproxy(dir: &Path, world: &World) -> Result<Proxy> {
    let program = find("tinyproxy")?;
    let (config, log) = (dir.join("tinyproxy.conf"), dir.join("tinyproxy.log"));
    let text = "Port 8888\nListen 127.0.0.1\nTimeout 600\nMaxClients 200\nAllow 127.0.0.1\nConnectPort 443\nLogLevel Connect\n";
    fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(config);
    let mut running = Running(vec![start(command, &log)?]);
    let at = served(&mut running, 8888, &log)?;
    Ok(Proxy {
        name: "tinyproxy".to_owned(),
        // It closes the connection after each plain request, and it opens no TLS.
        plain: None,
        tunnel: Some(client::secure(at, REGISTRY, &world.pem, "")?),
        intercepted: None,
        injected: None,
        written: None,
        _runs: Box::new(running),
    })
}

fn mitmproxy(dir: &Path, world: &World) -> Result<Proxy> {
    let program = find("mitmdump")?;
    let dir = dir.join("mitmproxy");
    open_folder(&dir)?;
    let log = dir.join("log");
    let command = |port: u16, more: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string()]);
        command.arg("--set").arg(format!("confdir={}", dir.display()));
        command.arg("--set").arg(format!("ssl_verify_upstream_trusted_ca={}", world.roots.display()));
        command.args(["--set", "flow_detail=1"]).args(more);
        command
    };
    let mut running = Running(vec![start(command(8090, &[]), &log)?]);
    let opens = served(&mut running, 8090, &log)?;
    // One that looks into nothing, for the tunnel.
    running.0.push(start(command(8091, &["--ignore-hosts", ".*"]), &dir.join("log-2"))?);
    let blind = served(&mut running, 8091, &dir.join("log-2"))?;
    let pem = fs::read_to_string(dir.join("mitmproxy-ca-cert.pem")).context("its authority")?;
    Ok(Proxy {
        name: "mitmproxy".to_owned(),
        plain: Some(client::plain(opens)),
        tunnel: Some(client::secure(blind, REGISTRY, &world.pem, "")?),
        intercepted: Some(client::secure(opens, HOST, &pem, "")?),
        injected: None,
        written: None,
        _runs: Box::new(running),
    })
}
