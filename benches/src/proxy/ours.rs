//! Our own way out: the real server and gateway, with one run whose box and operator are played.

use super::origin::{HOST, REGISTRY, World};
use super::{Proxy, client};
use crate::call::Running;
use crate::stage::Home;
use anyhow::{Context, Result};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;

/// What the run may: read anything, reach one registry blindly, and read and write with a credential below one path each.
const PROFILE: &str = r#"
[[egress.tunnel]]
packages = "bench"
mib = 4096
seconds = 3600

[[egress.write]]
capability = "bench"
host = "a.example"
method = "GET"
path = "/with"

[[egress.write]]
capability = "bench"
host = "a.example"
method = "POST"
path = "/write"
"#;

/// Starts it with its home below `parent`.
pub async fn start(name: &str, parent: &Path, world: &World) -> Result<Proxy> {
    let home = Home::with_roots(parent, Some(&world.roots))?;
    std::fs::write(home.at("profiles/registries.txt"), format!("{} bench the benchmark's own\n", reversed(REGISTRY)))?;
    // No model is called; one must be there.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let secret = ("capability/bench", json!({"value": "canary-credential-0123456789abcdef"}));
    // The handle of a person's own command, which goes into requests; an agent's goes to its model alone.
    let command = json!({"kind": "exec", "argv": ["true"], "profile": "bench"});
    let running =
        Running::start_with(&home, nobody, PROFILE, &[secret], &[command]).await.with_context(|| home.log())?;
    let (door, authority) = (running.doors[0].at, running.doors[0].authority.clone());
    let handle = format!("Authorization: Bearer {}\r\n", running.doors[0].handle);
    let mut injected = client::secure(door, HOST, &authority, &handle)?;
    injected.request = injected.request.replace("GET /x ", "GET /with/x ").into();
    let mut written = client::secure(door, HOST, &authority, &format!("{handle}Content-Length: 0\r\n"))?;
    written.request = written.request.replace("GET /x ", "POST /write/x ").into();
    Ok(Proxy {
        name: name.to_owned(),
        plain: Some(client::plain(door)),
        tunnel: Some(client::secure(door, REGISTRY, &world.pem, "")?),
        intercepted: Some(client::secure(door, HOST, &authority, "")?),
        injected: Some(injected),
        written: Some(written),
        _runs: Box::new((running, home)),
    })
}

/// A host in the order of the list.
fn reversed(host: &str) -> String {
    host.split('.').rev().collect::<Vec<_>>().join(".")
}
