//! A real browser: Debian's Chromium, driven over WebDriver, without a window.

use crate::{PATIENCE_SECS, eventually, held};
use fantoccini::actions::{InputSource, KeyAction, KeyActions};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Without these Chromium asks the internet for many things, or needs a screen.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser with a fresh profile, gone with its processes and files when dropped.
///
/// Blocking: tests read from top to bottom. `css` is always a CSS selector, and its first element is meant.
pub struct Browser {
    runtime: tokio::runtime::Runtime,
    client: Option<Client>,
    driver: Child,
    // Held for its drop, after the driver's end.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// The key that goes to the next control, for [`Browser::press`].
    pub const TAB: char = '\u{e004}';
    /// The key that does what the control is for.
    pub const ENTER: char = '\u{e007}';
    /// The key that closes what is open.
    pub const ESCAPE: char = '\u{e00c}';

    /// Starts a driver on a free port and a browser below it.
    ///
    /// # Panics
    /// When chromedriver or chromium is missing, or does not answer.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&json!({}))
    }

    /// As [`Browser::start`], as a phone of this many pixels across and down.
    ///
    /// # Panics
    /// As [`Browser::start`].
    #[must_use]
    pub fn start_sized(width: u32, height: u32) -> Self {
        // A window has a least width, which is wider than a phone; the page of an emulated screen has not.
        let screen = json!({"width": width, "height": height, "pixelRatio": 1.0, "touch": false, "mobile": false});
        Self::start_with(&json!({"mobileEmulation": {"deviceMetrics": screen}}))
    }

    /// With further options of chromedriver's.
    fn start_with(more: &Value) -> Self {
        let profile = tempfile::Builder::new().prefix("volary-b-").tempdir_in("/tmp").expect("/tmp can be written");
        let (driver, mut port) = start_driver(profile.path());
        // From here on a panic ends the driver.
        let mut browser = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            client: None,
            driver,
            _profile: profile,
        };
        eventually("chromedriver's answer", || {
            let answers = ready(port);
            // It may be another's, who took the port first: then this one ends, in a moment.
            std::thread::sleep(Duration::from_millis(if answers { 200 } else { 0 }));
            if browser.driver.try_wait().expect("its status can be read").is_some() {
                (browser.driver, port) = start_driver(browser._profile.path());
                return None;
            }
            answers.then_some(())
        });
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let mut options = more.clone();
        options["args"] = json!(flags);
        let Value::Object(wanted) = json!({"goog:chromeOptions": options}) else { unreachable!() };
        let connect = async {
            ClientBuilder::new(HttpConnector::new())
                .capabilities(wanted)
                .connect(&format!("http://127.0.0.1:{port}"))
                .await
        };
        browser.client = Some(browser.runtime.block_on(connect).expect("chromium starts"));
        browser
    }

    /// Waits for an act of the browser. For what has no method here.
    ///
    /// # Panics
    /// When the browser is gone.
    pub fn drive<T, F: Future<Output = T>>(&self, act: impl FnOnce(Client) -> F) -> T {
        let client = self.client.clone().expect("the browser lives");
        self.runtime.block_on(act(client))
    }

    /// Opens a page and waits until it is loaded.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(&self, url: &str) {
        self.drive(async |client| client.goto(url).await).unwrap_or_else(|e| panic!("opening {url}: {e}"));
    }

    /// Where it is.
    ///
    /// # Panics
    /// When the browser does not answer.
    #[must_use]
    pub fn url(&self) -> String {
        self.drive(async |client| client.current_url().await).expect("the browser answers").to_string()
    }

    /// The text of an element as a person reads it; none when there is no such element.
    #[must_use]
    pub fn text(&self, css: &str) -> Option<String> {
        found(|| {
            let act = async |client: Client| client.find(Locator::Css(css)).await?.text().await;
            self.drive(act).map_err(|e| e.to_string())
        })
        .ok()
    }

    /// How many elements there are.
    ///
    /// # Panics
    /// When the selector is none.
    #[must_use]
    pub fn count(&self, css: &str) -> usize {
        self.drive(async |client| client.find_all(Locator::Css(css)).await).expect("a selector").len()
    }

    /// An attribute of an element; none when there is no such element or attribute.
    #[must_use]
    pub fn attribute(&self, css: &str, name: &str) -> Option<String> {
        found(|| {
            let act = async |client: Client| client.find(Locator::Css(css)).await?.attr(name).await;
            self.drive(act).map_err(|e| e.to_string())
        })
        .ok()?
    }

    /// Waits for an element.
    ///
    /// # Panics
    /// When it does not come; with the page's text.
    pub fn wait_for(&self, css: &str) {
        self.wait_until(&format!("an element {css}"), |browser| browser.text(css).is_some());
    }

    /// Waits until an element's text holds `text`.
    ///
    /// # Panics
    /// When it does not; with the page's text.
    pub fn wait_for_text(&self, css: &str, text: &str) {
        self.wait_until(&format!("{text:?} in {css}"), |browser| {
            browser.text(css).is_some_and(|there| there.contains(text))
        });
    }

    /// Waits until `holds`.
    ///
    /// # Panics
    /// When it never does; with `what` and the page's text.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(PATIENCE_SECS);
        while !holds(self) {
            if std::time::Instant::now() >= end {
                panic!("{what}: not at {}, which reads:\n{}", self.url(), self.text("body").unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks an element.
    ///
    /// # Panics
    /// When there is none, or a click cannot reach it.
    pub fn click(&self, css: &str) {
        found(|| {
            let act = async |client: Client| client.find(Locator::Css(css)).await?.click().await;
            self.drive(act).map_err(|e| e.to_string())
        })
        .unwrap_or_else(|e| panic!("clicking {css}: {e}"));
    }

    /// Types into an element.
    ///
    /// # Panics
    /// When there is none, or it takes no text.
    pub fn fill(&self, css: &str, text: &str) {
        let act = async |client: Client| client.find(Locator::Css(css)).await?.send_keys(text).await;
        self.drive(act).unwrap_or_else(|e| panic!("typing into {css}: {e}"));
    }

    /// Presses a key and lets it go, wherever the keyboard is: a character, or a key as WebDriver numbers them, such as
    /// [`Browser::TAB`].
    ///
    /// # Panics
    /// When the browser does not take it.
    pub fn press(&self, key: char) {
        let press = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: key })
            .then(KeyAction::Up { value: key });
        self.drive(async |client| client.perform_actions(press).await)
            .unwrap_or_else(|e| panic!("pressing {key:?}: {e}"));
    }

    /// Runs a script's function body in the page and gives what it returns.
    ///
    /// # Panics
    /// When it throws.
    #[must_use]
    pub fn script(&self, body: &str) -> Value {
        self.drive(async |client| client.execute(body, Vec::new()).await).unwrap_or_else(|e| panic!("{body}: {e}"))
    }

    /// The page as PNG.
    ///
    /// # Panics
    /// When the browser does not answer.
    #[must_use]
    pub fn screenshot(&self) -> Vec<u8> {
        self.drive(async |client| client.screenshot().await).expect("the browser answers")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(client) = self.client.take()
            && let Err(error) = self.runtime.block_on(client.close())
        {
            eprintln!("closing the browser: {error}");
        }
        let group = rustix::process::Pid::from_child(&self.driver);
        if let Err(error) = rustix::process::kill_process_group(group, rustix::process::Signal::KILL) {
            eprintln!("ending the browser's processes: {error}");
        }
        if let Err(error) = self.driver.wait() {
            eprintln!("waiting for chromedriver: {error}");
        }
    }
}

/// Acts on what is found in the page. Where the page lives, that may be replaced between the two: then it is found again.
fn found<T>(mut act: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    for _ in 1..20 {
        match act() {
            Err(e) if e.contains("stale element") => std::thread::sleep(Duration::from_millis(50)),
            came => return came,
        }
    }
    act()
}

/// Starts a driver on a port that was free a moment ago; gives both.
fn start_driver(home: &Path) -> (Child, u16) {
    let port = free_port();
    let mut driver = Command::new("chromedriver");
    driver
        .arg(format!("--port={port}"))
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The browser's processes are of this group: one signal ends them all.
        .process_group(0);
    let driver = held(&mut driver).spawn().expect("chromedriver starts (`cargo xtask test` installs it)");
    (driver, port)
}

/// A port that was free a moment ago. chromedriver takes a number only; should another take that first, it ends.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// Whether chromedriver says so. It may keep the connection open after its answer: reads no further than needed.
fn ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let ask = format!("GET /status HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    if stream.write_all(ask.as_bytes()).is_err() || stream.set_read_timeout(Some(Duration::from_secs(5))).is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..n]);
        if String::from_utf8_lossy(&answer).contains("\"ready\":true") {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelDouble, Turn};

    #[test]
    fn a_page_is_read_as_a_person_reads_it() {
        let browser = Browser::start();
        browser.open("data:text/html,<h1>Hello</h1><p hidden>no one</p><button onclick='document.title=1'>go</button>");
        assert_eq!(browser.text("h1").as_deref(), Some("Hello"));
        assert_eq!(browser.text("p").as_deref(), Some(""));
        assert_eq!(browser.text("h2"), None);
        browser.click("button");
        assert_eq!(browser.script("return document.title"), json!("1"));
        assert_eq!(browser.script("return 6 * 7"), json!(42));
        assert!(browser.screenshot().starts_with(b"\x89PNG"));
    }

    #[test]
    fn a_page_on_loopback_is_reached_and_a_phone_is_as_narrow_as_it_says() {
        let double = ModelDouble::start("k", vec![Turn::says("x")]);
        let browser = Browser::start_sized(400, 800);
        browser.open(&double.url());
        browser.wait_for_text("body", "no such path");
        assert_eq!(browser.script("return window.innerWidth"), json!(400));
    }
}
