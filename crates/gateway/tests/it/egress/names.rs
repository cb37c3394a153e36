//! A name server that says what the test wants, answer after answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// Where it listens, in the test's own network.
pub const ADDRESS: &str = "127.0.0.53:53";

/// A label of names that nothing is said of.
const SILENT: &[u8] = b"silent";

const A: u16 = 1;
const AAAA: u16 = 28;

/// The names of one world. A name's answers are given one after the other, the last again and again.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<String, Vec<Vec<IpAddr>>>,
    asked: HashMap<(String, u16), usize>,
}

impl Names {
    pub fn set(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers.iter().map(|one| one.iter().map(|a| a.parse().expect("an address")).collect()).collect();
        let mut state = self.0.lock().expect("unpoisoned");
        state.asked.retain(|(asked, _), _| asked != name);
        state.answers.insert(name.to_owned(), answers);
    }

    /// How often a name's IPv4 addresses were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.0.lock().expect("unpoisoned").asked.get(&(name.to_owned(), A)).copied().unwrap_or(0)
    }

    fn answer(&self, name: &str, kind: u16) -> Option<Vec<IpAddr>> {
        let mut state = self.0.lock().expect("unpoisoned");
        let nth = state.asked.entry((name.to_owned(), kind)).or_default();
        let at = *nth;
        *nth += 1;
        let answers = state.answers.get(name)?;
        let all = answers.get(at.min(answers.len() - 1))?;
        Some(all.iter().copied().filter(|a| a.is_ipv4() == (kind == A)).collect())
    }

    /// Serves until the test ends.
    pub async fn serve(&self) {
        let socket = UdpSocket::bind(ADDRESS).await.expect("a socket of our own network");
        let names = self.clone();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                if packet[..length].windows(SILENT.len()).any(|w| w == SILENT) {
                    continue;
                }
                let reply = names.reply(&packet[..length]);
                reply_to(&socket, &reply, from).await;
            }
        });
    }

    fn reply(&self, question: &[u8]) -> Vec<u8> {
        let mut labels = Vec::new();
        let mut at = 12;
        while question[at] != 0 {
            let length = usize::from(question[at]);
            labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
            at += length + 1;
        }
        let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
        let addresses = self.answer(&labels.join("."), kind);
        let mut reply = question[..2].to_vec();
        reply.extend_from_slice(&[0x81, if addresses.is_some() { 0x80 } else { 0x83 }, 0, 1]);
        let addresses = addresses.unwrap_or_default();
        reply.extend_from_slice(&u16::try_from(addresses.len()).expect("few").to_be_bytes());
        reply.extend_from_slice(&[0, 0, 0, 0]);
        reply.extend_from_slice(&question[12..at + 5]);
        for address in addresses {
            let data = match address {
                IpAddr::V4(a) => a.octets().to_vec(),
                IpAddr::V6(a) => a.octets().to_vec(),
            };
            let kind = if data.len() == 4 { A } else { AAAA };
            reply.extend_from_slice(&[0xc0, 12]);
            reply.extend_from_slice(&kind.to_be_bytes());
            reply.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).expect("16 at most")]);
            reply.extend_from_slice(&data);
        }
        reply
    }
}

async fn reply_to(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    // Whoever asked may be gone.
    drop(socket.send_to(reply, to).await);
}
