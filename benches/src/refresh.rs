//! Fifty clients that need a connection's token at the moment at which it is over: how many refreshes that takes, and how
//! long each of them waits, beside one client alone and beside a token that is fresh.

use crate::stage::Home;
use crate::table::{Spread, Table, figure, goal, ms};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that race.
const CLIENTS: usize = 50;

/// Connections, each of which is raced for once.
const ROUNDS: usize = 10;

/// What the provider takes for a refresh, so that there is something to race for.
const TAKES: Duration = Duration::from_millis(20);

/// Measures and prints.
pub fn run() -> Result<()> {
    let provider = Provider::start()?;
    let home = Home::new(&std::env::temp_dir())?;
    let _server = home.server()?;
    let _gateway = home.gateway()?;
    until("the gateway", || Ok(home.api("GET", "/api/health", None)?["gateway"] == Value::Bool(true)))?;

    let (mut alone, mut racing, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..ROUNDS {
        for (kind, clients, times) in [("alone", 1, &mut alone), ("raced", CLIENTS, &mut racing)] {
            let name = format!("{kind}-{n}");
            sign_in(&home, &provider, &name)?;
            times.extend(race(&home, &name, clients)?);
        }
        fresh.extend(race(&home, &format!("raced-{n}"), CLIENTS)?);
    }
    let counts: Vec<usize> = (0..ROUNDS).map(|n| provider.refreshes(&format!("raced-{n}"))).collect();
    let most = counts.iter().copied().max().unwrap_or(0);

    let mut table = Table::new(&["a token for", "refreshes each", "p50 ms", "p99", "max"]);
    let mut row = |what: &str, refreshes: String, times: Vec<f64>| {
        let spread = Spread::of(times);
        table.row([what.to_owned(), refreshes, figure(spread.p50), figure(spread.p99), figure(spread.max)]);
    };
    row("one client, whose token is over", "1".to_owned(), alone);
    row("50 clients at once, whose token is over", most.to_string(), racing);
    row("50 clients at once, whose token is fresh", "0".to_owned(), fresh);
    table.print();
    println!("the provider takes {} ms for a refresh", TAKES.as_millis());
    goal("refreshes for 50 racing clients", "1", &most.to_string(), counts.iter().all(|count| *count == 1));
    Ok(())
}

/// A connection whose token is over as soon as somebody has signed in.
fn sign_in(home: &Home, provider: &Provider, name: &str) -> Result<()> {
    let at = |path: &str| format!("http://{}/{name}{path}", provider.address);
    let settings = json!({ "settings": {
        "device_url": at("/device"), "token_url": at("/token"), "client_id": "bench", "internal": true,
    } });
    let path = format!("/api/connections/{name}");
    home.api("PUT", &path, Some(&settings))?;
    home.api("POST", &format!("{path}/device"), Some(&json!({})))?;
    until("the sign-in", || Ok(home.api("GET", &path, None)?["generation"].as_u64() >= Some(1)))
}

/// How long each of so many clients waits that ask at once, in milliseconds.
fn race(home: &Home, name: &str, clients: usize) -> Result<Vec<f64>> {
    let path = format!("/api/connections/{name}/test");
    let barrier = std::sync::Barrier::new(clients);
    std::thread::scope(|scope| {
        let one = || -> Result<f64> {
            barrier.wait();
            let begun = Instant::now();
            home.api("POST", &path, Some(&json!({})))?;
            Ok(ms(begun.elapsed()))
        };
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|client| client.join().ok().context("a client panicked")?).collect()
    })
}

fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while !so()? {
        ensure!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A provider that gives tokens to whoever asks: of a sign-in such that are over, of a refresh such that last.
struct Provider {
    address: SocketAddr,
    refreshes: Arc<Mutex<BTreeMap<String, usize>>>,
    over: Arc<AtomicBool>,
}

impl Provider {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let refreshes = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let over = Arc::<AtomicBool>::default();
        let (counts, ended) = (refreshes.clone(), over.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let counts = counts.clone();
                std::thread::spawn(move || {
                    if let Err(error) = answer(stream, &counts) {
                        eprintln!("the provider: {error}");
                    }
                });
            }
        });
        Ok(Self { address, refreshes, over })
    }

    fn refreshes(&self, name: &str) -> usize {
        self.refreshes.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes its accept; when that is over it is as wished.
        drop(TcpStream::connect(self.address));
    }
}

fn answer(mut stream: TcpStream, counts: &Mutex<BTreeMap<String, usize>>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        from.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut form = vec![0; length];
    from.read_exact(&mut form)?;
    let refresh = String::from_utf8_lossy(&form).contains("grant_type=refresh_token");
    let body = if target.ends_with("/device") {
        json!({
            "device_code": "a-code", "user_code": "AB-CD", "verification_uri": "https://provider.example/", "expires_in": 600,
            "interval": 1,
        })
    } else {
        if refresh {
            std::thread::sleep(TAKES);
            let name = target.split('/').nth(1).unwrap_or_default().to_owned();
            *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        }
        let lives = if refresh { 3600 } else { 0 };
        json!({ "access_token": "access-of-the-bench", "refresh_token": "refresh-of-the-bench", "expires_in": lives })
    }
    .to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
