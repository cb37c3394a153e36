//! A session is its account's: the cookie of 127.0.0.1 that a browser hands to every port is worth nothing to another.

use crate::sign_in;
use crate::stage::Stage;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Asks for the list with the cookie, from a socket of `uid`. As root only: another account is becoming one.
fn list_as(uid: u32, port: u16, cookie: &str) -> String {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                // SAFETY: plain calls; past the C library, which would change every thread.
                let became = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
                assert_eq!(became, 0, "become uid {uid}: {}", std::io::Error::last_os_error());
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let head = format!(
                    "GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answer
            })
            .join()
            .unwrap()
    })
}

#[tokio::test]
async fn a_cookie_in_the_hands_of_another_account_is_no_session() {
    let stage = Stage::start();
    let cookie = sign_in(&stage).await;
    assert!(cookie.starts_with(&format!("volary-{}=", stage.port)), "{cookie}");
    // SAFETY: only asks.
    let own = unsafe { libc::geteuid() };
    let (port, same) = (stage.port, cookie.clone());
    let answer = tokio::task::spawn_blocking(move || list_as(own, port, &same)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    if own == 0 {
        let answer = tokio::task::spawn_blocking(move || list_as(4_000_000_123, port, &cookie)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
}
