//! A gateway's end of the runner's own connection: gives what a test says, and keeps what it is told.

use crate::support::Box;
use api::delivery::{FromRunner, Over, RUNNER, ToRunner};
use api::frame;
use api::grants::WireSecret;
use api::leases::{LeaseEnd, LeaseUser};
use model::capability::Delivery;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// What it was told.
#[derive(Default, Clone)]
pub struct Told(Arc<Mutex<Vec<FromRunner>>>);

impl Told {
    /// Who used a lease, in order.
    pub fn users(&self) -> Vec<LeaseUser> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter_map(|said| if let FromRunner::Use { by, .. } = said { Some(by.clone()) } else { None })
            .collect()
    }

    /// How the uses ended, in order.
    pub fn ends(&self) -> Vec<LeaseEnd> {
        let all = self.0.lock().unwrap();
        all.iter()
            .filter_map(|said| if let FromRunner::End { outcome, .. } = said { Some(*outcome) } else { None })
            .collect()
    }
}

/// A lease's id that stands for the `n`th of the deliveries that [`serve`] is given.
pub fn lease(n: u8) -> String {
    char::from(b'a' + n).to_string().repeat(26)
}

/// Serves a box's door: each lease of [`lease`] gives `value` in its way, and is `over` at once where that is given. Every
/// other one is denied.
pub async fn serve(made: &mut Box, value: &str, ways: Vec<Delivery>, over: Option<Over>) -> Told {
    let door = made.door.take().expect("it is served once");
    door.set_nonblocking(true).unwrap();
    let door = TcpListener::from_std(door).unwrap();
    let (told, value) = (Told::default(), value.to_owned());
    let (mut stream, _) = door.accept().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), RUNNER);
    let (keeps, ways) = (told.clone(), Arc::new(ways));
    tokio::spawn(async move {
        // Connections after the first wait unserved for as long as the box lives.
        let _door = door;
        let (mut from, mut to) = stream.into_split();
        while let Ok(said) = frame::read::<FromRunner>(&mut from).await {
            let mut answers = Vec::new();
            if let FromRunner::Use { id, lease, .. } = &said {
                let id = *id;
                let way = ways.get(usize::from(lease.as_str().as_bytes()[0] - b'a'));
                answers.push(match way {
                    Some(way) => ToRunner::Value {
                        id,
                        value: WireSecret(model::Secret::new(value.clone())),
                        secret: if *way == Delivery::Proxy { String::new() } else { "custom/shop".into() },
                        delivery: way.clone(),
                        variables: if *way == Delivery::Proxy { vec!["SHOP".into()] } else { Vec::new() },
                        destination: "git.example/acme/shop".into(),
                        parts: Vec::new(),
                    },
                    None => {
                        ToRunner::Denied { id, rule: "lease.unknown".into(), why: "There is no such lease.".into() }
                    }
                });
                answers.extend(over.map(|why| ToRunner::Over { id, why }));
            }
            keeps.0.lock().unwrap().push(said);
            for answer in answers {
                frame::write(&mut to, &answer).await.unwrap();
            }
        }
    });
    told
}
