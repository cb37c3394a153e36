//! `lease`: asks at the run's own door for the use of a capability. What comes back is an id, never a value.

use super::{Bench, Lease, Said, cut};
use crate::lived;
use api::leases::{Given, PATH, Wish};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::capability::Delivery;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an answer may take, in seconds: the gateway's own patience with the server, and some.
const SECONDS: u64 = 60;
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) async fn run(bench: &Bench, lease: &Lease) -> Result<Said, Said> {
    let Lease { capability, destination, reason } = lease.clone();
    let wish = serde_json::to_vec(&Wish { capability, destination, reason });
    let wish = wish.map_err(|e| Said::error(format!("The wish cannot be sent: {e}.")))?;
    let (status, body) = post(bench, PATH, wish).await?;
    if status == StatusCode::OK
        && let Ok(given) = serde_json::from_slice::<Given>(&body)
    {
        return Ok(Said::ok(granted(&given)));
    }
    Err(Said::error(refused(status, &body)))
}

/// Asks the run's own door for something, in JSON, with the run's handle; gives status and body.
pub(super) async fn post(bench: &Bench, path: &str, body: Vec<u8>) -> Result<(StatusCode, Bytes), Said> {
    lived::timeout(Duration::from_secs(SECONDS), ask(bench, path, body))
        .await
        .map_err(|_| Said::error("The gateway did not answer in time."))?
        .map_err(|why| Said::error(format!("The gateway cannot be asked: {why}.")))
}

async fn ask(
    bench: &Bench,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(&bench.door).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(path)
        .header(HOST, &bench.door)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("volary-agent/", env!("CARGO_PKG_VERSION")))
        .header(AUTHORIZATION, format!("Bearer {}", bench.handle))
        .body(Full::new(Bytes::from(body)))?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    // The connection ends by itself when the answer is read, and its errors show in that.
    let driving = async move {
        connection.await.ok();
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        outcome = asking => outcome,
        never = driving => match never {},
    }
}

/// What the model reads of a lease.
fn granted(given: &Given) -> String {
    let programs = given.executables.join(", ");
    let how = match &given.delivery {
        Delivery::Proxy => format!(
            "Give its id to `shell` as `lease`; the program {} and finds a handle as VOLARY_HANDLE in its environment, to be \
             sent where the credential would be: sh -c 'curl -H \"Authorization: Bearer $VOLARY_HANDLE\" …'. The handle ends \
             with the command.",
            if programs.is_empty() {
                "is any that you cannot write".to_owned()
            } else {
                format!("is one of {programs}")
            }
        ),
        Delivery::Variable(name) => {
            format!(
                "Give its id to `shell` as `lease`; the program is one of {programs} and finds the credential as {name}."
            )
        }
        Delivery::File(name) => format!(
            "Give its id to `shell` as `lease`; the program is one of {programs} and finds the path of a file with the \
             credential as {name}."
        ),
        Delivery::Stdin => format!(
            "Give its id to `shell` as `lease`; the program is one of {programs} and reads the credential from its standard \
             input."
        ),
        Delivery::GitHelper => {
            format!("Give its id to `shell` as `lease`; the program is one of {programs} and its git signs in with it.")
        }
    };
    format!("lease {}\nFor one use, soon. {how}", given.lease)
}

/// What the model reads of a refusal: the gateway's own words.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match value["error"]["message"].as_str() {
        Some(message) => cut::characters(message, 2000),
        None => format!("The gateway answered {status}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A door that answers one request with this, and gives what it was asked.
    async fn asked(status: &str, body: &str) -> (String, Result<Said, Said>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bench = super::super::walk::tests::bench(std::path::Path::new("/nowhere"));
        let bench = Bench { door: listener.local_addr().unwrap().to_string(), handle: "vh_mine".into(), ..bench };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let serving = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"}") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).await.unwrap();
                assert_ne!(n, 0, "the request broke off");
                heard.extend_from_slice(&piece[..n]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(heard).unwrap()
        };
        let lease = Lease { capability: "shop".into(), destination: "shop.example.org".into(), reason: "paper".into() };
        tokio::join!(serving, run(&bench, &lease))
    }

    #[tokio::test]
    async fn a_lease_is_asked_for_with_the_runs_handle_and_told_by_its_id() {
        let given =
            r#"{"lease":"abc","expires":5,"delivery":{"variable":"SHOP_TOKEN"},"executables":["/usr/bin/curl"]}"#;
        let (heard, said) = asked("200 OK", given).await;
        let said = said.unwrap_or_else(|said| panic!("{}", said.text));
        assert!(heard.starts_with("POST /lease HTTP/1.1\r\n") && heard.contains("Bearer vh_mine"), "{heard}");
        assert!(
            heard.contains(r#"{"capability":"shop","destination":"shop.example.org","reason":"paper"}"#),
            "{heard}"
        );
        assert!(said.ok && said.text.starts_with("lease abc\n"), "{}", said.text);
        assert!(said.text.contains("SHOP_TOKEN") && said.text.contains("/usr/bin/curl"), "{}", said.text);
    }

    #[tokio::test]
    async fn of_a_handle_it_is_told_where_it_stands_and_how_it_is_sent() {
        let given = r#"{"lease":"abc","expires":5,"delivery":"proxy"}"#;
        let said = asked("200 OK", given).await.1.unwrap_or_else(|said| panic!("{}", said.text));
        assert!(said.text.contains("any that you cannot write") && said.text.contains("sh -c 'curl"), "{}", said.text);
        assert!(said.text.contains("Authorization: Bearer $VOLARY_HANDLE"), "{}", said.text);
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_gateways_words() {
        let (_, said) =
            asked("403 Forbidden", r#"{"error":{"message":"Refused by policy (rule lease.capability)."}}"#).await;
        let said = said.err().unwrap();
        assert!(!said.ok && said.text.contains("lease.capability"), "{}", said.text);
    }
}
