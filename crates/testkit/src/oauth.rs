//! An OAuth provider on loopback that answers as the real ones write, changes its refresh tokens at each use, and keeps
//! every request it got.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What becomes of a request for tokens, besides what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Nothing.
    Plain,
    /// It acts, and answers only when [`OauthDouble::release`] says so.
    Hold,
    /// It acts, and breaks off without an answer.
    Lose,
    /// It acts, and answers with half of its words.
    Garble,
    /// It does not act, and answers with this status.
    Fail(u16),
    /// It does not act, and answers with this status and the refresh token that it was shown, wherever there is room.
    Echo(u16),
    /// The same with the client's secret that it was shown, by a form or by basic sign-in.
    EchoClient(u16),
}

/// How the provider treats refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Each is good for one use.
    Once,
    /// The one before the last is taken too.
    OnceLeniently,
    /// The same for good.
    Lasting,
}

/// One request for tokens, or to end one, as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthRequest {
    /// The path.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The form's fields, in order.
    pub fields: Vec<(String, String)>,
}

impl OauthRequest {
    /// A field of the form.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

struct State {
    tokens: Tokens,
    lives: Option<u64>,
    moods: VecDeque<Mood>,
    requests: Vec<OauthRequest>,
    /// Refreshes that are under way, and the most that ever were.
    under_way: (usize, usize),
    /// The number of the refresh token that is good.
    good: u64,
    /// Challenges by code.
    codes: Vec<(String, String)>,
    /// How often the device's person is not asked yet.
    pending: u32,
    held: u64,
    released: u64,
    ended: Vec<String>,
    /// What every token ends with.
    tail: String,
    /// Every token that was given.
    given: Vec<String>,
}

/// The provider. It ends when it is dropped.
pub struct OauthDouble {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn locked(state: &(Mutex<State>, Condvar)) -> MutexGuard<'_, State> {
    state.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OauthDouble {
    /// Starts one on a free port of 127.0.0.1, whose access tokens live for so many seconds.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(tokens: Tokens, lives: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State {
            tokens,
            lives,
            moods: VecDeque::new(),
            requests: Vec::new(),
            under_way: (0, 0),
            good: 0,
            codes: Vec::new(),
            pending: 0,
            held: 0,
            released: 0,
            ended: Vec::new(),
            tail: String::new(),
            given: Vec::new(),
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (state.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (shared, ended) = (shared.clone(), ended.clone());
                // Ends by itself: every wait of it looks whether the double is over.
                std::thread::spawn(move || drop(serve(stream, &shared, &ended)));
            }
        });
        Self { address, state, over, thread: Some(thread) }
    }

    /// An address of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request for tokens so far, and to end one.
    #[must_use]
    pub fn requests(&self) -> Vec<OauthRequest> {
        locked(&self.state).requests.clone()
    }

    /// Refreshes so far.
    #[must_use]
    pub fn refreshes(&self) -> usize {
        let refresh = |request: &&OauthRequest| request.field("grant_type") == Some("refresh_token");
        locked(&self.state).requests.iter().filter(refresh).count()
    }

    /// The most refreshes that were under way at the same time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        locked(&self.state).under_way.1
    }

    /// The next requests for tokens by a refresh meet these moods, one each; after them nothing special.
    pub fn moods(&self, moods: &[Mood]) {
        locked(&self.state).moods.extend(moods);
    }

    /// From here on access tokens live for so many seconds.
    pub fn lives(&self, lives: Option<u64>) {
        locked(&self.state).lives = lives;
    }

    /// The device's person is not asked so many times yet.
    pub fn pending(&self, times: u32) {
        locked(&self.state).pending = times;
    }

    /// Requests that are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        let state = locked(&self.state);
        state.held - state.released
    }

    /// Answers every request that is held.
    pub fn release(&self) {
        let mut state = locked(&self.state);
        state.released = state.held;
        self.state.1.notify_all();
    }

    /// The number of the refresh token that is good: one more at each use, where it changes.
    #[must_use]
    pub fn good(&self) -> u64 {
        locked(&self.state).good
    }

    /// From here on every token ends so; before the first one is given.
    pub fn tail(&self, tail: &str) {
        tail.clone_into(&mut locked(&self.state).tail);
    }

    /// Every token that it gave.
    #[must_use]
    pub fn given(&self) -> Vec<String> {
        locked(&self.state).given.clone()
    }

    /// The tokens that were ended here.
    #[must_use]
    pub fn ended(&self) -> Vec<String> {
        locked(&self.state).ended.clone()
    }
}

impl Drop for OauthDouble {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.state.1.notify_all();
        // Wakes its accept; when nobody listens any more it is over already.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            // That it panicked is told by the test that it served.
            drop(thread.join());
        }
    }
}

/// What a request is answered with.
struct Said {
    status: u16,
    location: Option<String>,
    body: String,
    mood: Mood,
}

impl Said {
    fn json(status: u16, body: String) -> Self {
        Self { status, location: None, body, mood: Mood::Plain }
    }
    fn error(code: &str) -> Self {
        Self::json(400, format!(r#"{{"error":"{code}","error_description":"as the double has it"}}"#))
    }
}

fn serve(stream: TcpStream, state: &Arc<(Mutex<State>, Condvar)>, over: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut from = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or("/").to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut header = String::new();
        if from.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorization = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let form = if method == "POST" { String::from_utf8_lossy(&body).into_owned() } else { query.to_owned() };
    let request = OauthRequest { path: path.to_owned(), authorization, fields: fields(&form) };
    let refresh = request.field("grant_type") == Some("refresh_token");
    let said = {
        let mut state = locked(state);
        if refresh {
            state.under_way.0 += 1;
            state.under_way.1 = state.under_way.1.max(state.under_way.0);
        }
        if method == "POST" {
            state.requests.push(request.clone());
        }
        answer(&mut state, &request, refresh)
    };
    let written = tell(stream, state, over, said);
    if refresh {
        locked(state).under_way.0 -= 1;
    }
    written
}

fn tell(mut to: TcpStream, state: &(Mutex<State>, Condvar), over: &AtomicBool, said: Said) -> std::io::Result<()> {
    match said.mood {
        Mood::Lose => return Ok(()),
        Mood::Hold => {
            let mut state_now = locked(state);
            state_now.held += 1;
            let mine = state_now.held;
            to.set_nonblocking(true)?;
            while state_now.released < mine && !over.load(Ordering::Relaxed) {
                let waited = state.1.wait_timeout(state_now, Duration::from_millis(50));
                state_now = waited.unwrap_or_else(PoisonError::into_inner).0;
                // One who has hung up has no request under way any more.
                if matches!(to.peek(&mut [0]), Ok(0)) {
                    state_now.released = state_now.released.max(mine);
                    return Ok(());
                }
            }
            to.set_nonblocking(false)?;
        }
        Mood::Plain | Mood::Garble | Mood::Fail(_) | Mood::Echo(_) | Mood::EchoClient(_) => {}
    }
    let location = said.location.map_or_else(String::new, |to| format!("location: {to}\r\n"));
    let head = format!(
        "HTTP/1.1 {} Said\r\ncontent-type: application/json\r\ncache-control: no-store\r\n{location}content-length: {}\r\n\
         connection: close\r\n\r\n",
        said.status,
        said.body.len()
    );
    to.write_all(head.as_bytes())?;
    let most = if said.mood == Mood::Garble { said.body.len() / 2 } else { said.body.len() };
    to.write_all(&said.body.as_bytes()[..most])?;
    to.flush()
}

fn answer(state: &mut State, request: &OauthRequest, refresh: bool) -> Said {
    match request.path.as_str() {
        "/authorize" => {
            let code = format!("code-{}", state.codes.len() + 1);
            let challenge = request.field("code_challenge").unwrap_or_default().to_owned();
            if request.field("code_challenge_method") != Some("S256") || challenge.is_empty() {
                return Said::error("invalid_request");
            }
            state.codes.push((code.clone(), challenge));
            let (back, known) = (request.field("redirect_uri").unwrap_or_default(), request.field("state").unwrap_or_default());
            let location = Some(format!("{back}?code={code}&state={known}"));
            Said { status: 302, location, body: String::new(), mood: Mood::Plain }
        }
        "/device" => Said::json(
            200,
            r#"{"device_code":"device-code-canary","user_code":"WDJB-MJHT","verification_uri":"https://provider.example/device","expires_in":900,"interval":1}"#.into(),
        ),
        "/revoke" => {
            state.ended.push(request.field("token").unwrap_or_default().to_owned());
            Said::json(200, String::new())
        }
        "/token" if refresh => {
            let mood = state.moods.pop_front().unwrap_or(Mood::Plain);
            if let Mood::Fail(status) = mood {
                return Said { status, location: None, body: String::new(), mood };
            }
            let shown = request.field("refresh_token").unwrap_or_default();
            if let Mood::Echo(status) = mood {
                return echo(status, shown);
            }
            if let Mood::EchoClient(status) = mood {
                let basic = || request.authorization.as_deref().and_then(client_of);
                let secret = request.field("client_secret").map(str::to_owned).or_else(basic);
                return echo(status, &secret.unwrap_or_default());
            }
            let number = shown.strip_suffix(state.tail.as_str()).and_then(|shown| shown.strip_prefix("refresh-canary-"));
            let number = number.and_then(|n| n.parse::<u64>().ok());
            let lenient = state.tokens == Tokens::OnceLeniently;
            let good = number.is_some_and(|n| n == state.good || lenient && n + 1 == state.good);
            let said = if good { given(state, state.tokens != Tokens::Lasting) } else { Said::error("invalid_grant") };
            Said { mood, ..said }
        }
        "/token" => match request.field("grant_type") {
            Some("authorization_code") => {
                let at = state.codes.iter().position(|(code, _)| Some(code.as_str()) == request.field("code"));
                // Used once, whatever comes of it.
                match at.map(|at| state.codes.remove(at)) {
                    Some((_, challenge)) if request.field("code_verifier").map(challenge_of) == Some(challenge.clone()) => {
                        given(state, true)
                    }
                    _ => Said::error("invalid_grant"),
                }
            }
            Some("urn:ietf:params:oauth:grant-type:device_code") if state.pending > 0 => {
                state.pending -= 1;
                Said::error("authorization_pending")
            }
            Some("urn:ietf:params:oauth:grant-type:device_code") => given(state, true),
            _ => Said::error("unsupported_grant_type"),
        },
        _ => Said::json(404, String::new()),
    }
}

/// Each in a place of its own: the code of an error where it is one, its words, a header, a name that is no field of the
/// protocol's.
fn echo(status: u16, shown: &str) -> Said {
    let mut body = serde_json::json!({
        "error_description": format!("{shown} is no token"), "error_uri": format!("https://x.example/{shown}"),
        "message": shown, shown: true,
    });
    if status == 400 {
        body["error"] = shown.into();
    }
    let location = Some(format!("https://x.example/?token={shown}\r\nx-echo: {shown}"));
    Said { status, location, body: body.to_string(), mood: Mood::Echo(status) }
}

/// The client's secret of a basic sign-in (RFC 6749 §2.3.1: form-encoded, then put together).
fn client_of(authorization: &str) -> Option<String> {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.decode(authorization.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    Some(fields(&format!("secret={}", pair.split_once(':')?.1)).remove(0).1)
}

/// New tokens, with a new refresh token when it `changes`.
fn given(state: &mut State, changes: bool) -> Said {
    let access = format!("access-canary-{}{}", state.requests.len(), state.tail);
    let mut said = serde_json::json!({ "access_token": access, "token_type": "bearer" });
    state.given.push(access);
    if let Some(lives) = state.lives {
        said["expires_in"] = lives.into();
    }
    if changes {
        state.good += 1;
        let refresh = format!("refresh-canary-{}{}", state.good, state.tail);
        said["refresh_token"] = refresh.as_str().into();
        state.given.push(refresh);
    }
    Said::json(200, said.to_string())
}

fn challenge_of(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}

fn fields(form: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        let (mut out, mut bytes) = (Vec::new(), text.bytes());
        while let Some(byte) = bytes.next() {
            match byte {
                b'+' => out.push(b' '),
                b'%' => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    out.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
                }
                other => out.push(other),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    form.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_secret_is_read_as_a_basic_sign_in_writes_it() {
        // `our+id:s3cr%3At%26`
        assert_eq!(client_of("Basic b3VyK2lkOnMzY3IlM0F0JTI2").as_deref(), Some("s3cr:t&"));
        assert_eq!(client_of("Bearer b3VyK2lkOnMzY3IlM0F0JTI2"), None);
    }
}
