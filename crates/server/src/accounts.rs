//! Which account of this host a connection on loopback comes from, as the kernel's table of connections says.
//!
//! A browser hands a cookie of 127.0.0.1 to whatever listens on any port there. Bound to the account that it was
//! given to, it is worth nothing to a server that runs under another.
//!
//! The table is opened before the process confines itself, which may open nothing of `/proc` afterwards.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Where the kernel shows the table.
pub const TABLE: &str = "/proc/net/tcp";

/// How often a connection is looked for: while others come and go, a reading can pass one over.
const READINGS: usize = 3;

/// The state of a connection that neither side has ended, as the table writes it.
const ESTABLISHED: &str = "01";

/// The kernel's table of connections over IPv4.
#[derive(Debug)]
pub struct Accounts(Mutex<File>);

impl Accounts {
    /// Opens the table.
    ///
    /// # Errors
    /// When this system shows none.
    pub fn open() -> io::Result<Self> {
        Ok(Self(Mutex::new(File::open(Path::new(TABLE))?)))
    }

    /// The uid of the process that connected from `far` to `near`; none when the table does not show it whole and open.
    #[must_use]
    pub fn of(&self, far: SocketAddr, near: SocketAddr) -> Option<u32> {
        for _ in 0..READINGS {
            let first = self.look(far, near)?;
            let again = self.look(far, near)?;
            // A closed socket has no owner and reads as root's. Its state says so, but the kernel reads the two one
            // after the other: only what is still open at a second reading was owned at the first.
            if let (Some(uid), Some(same)) = (first, again)
                && uid == same
            {
                return Some(uid);
            }
        }
        // Not louder: whoever opens and closes connections would fill the log.
        tracing::debug!("the connection from {far} is not in {TABLE}");
        None
    }

    /// One reading; none when it cannot be read, which is told.
    fn look(&self, far: SocketAddr, near: SocketAddr) -> Option<Option<u32>> {
        let mut table = String::new();
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match file.rewind().and_then(|()| file.read_to_string(&mut table)) {
            Ok(_) => Some(owner(&table, far, near)),
            Err(e) => {
                tracing::error!("{TABLE} cannot be read: {e}");
                None
            }
        }
    }
}

/// The uid in the line of the connection's far end, which is a socket of this host as well.
fn owner(table: &str, far: SocketAddr, near: SocketAddr) -> Option<u32> {
    let (far, near) = (written(far)?, written(near)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != far || fields.next()? != near || fields.next()? != ESTABLISHED {
            return None;
        }
        // Behind them: the queues, the timer, retransmits.
        fields.nth(3)?.parse().ok()
    })
}

/// An address as the table writes it: the four bytes as one number of this machine, and the port, in hex.
fn written(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, from) = listener.accept().unwrap();
        let to = near.local_addr().unwrap();
        (far, near, from, to)
    }

    #[test]
    fn a_connection_is_its_account_s_while_it_is_open_and_nobody_s_once_it_was_closed() {
        let accounts = Accounts::open().unwrap();
        let (far, near, from, to) = pair();
        // SAFETY: only asks.
        assert_eq!(accounts.of(from, to), Some(unsafe { libc::geteuid() }));
        drop(far);
        assert_eq!(accounts.of(from, to), None, "a closed socket reads as root's");
        drop(near);
    }

    #[test]
    fn only_the_far_end_of_this_very_connection_in_this_very_state_is_read() {
        let line = |from: &str, to: &str, state: &str, uid: u32| {
            format!(
                "   1: {from} {to} {state} 00000000:00000000 00:00000000 00000000  {uid}        0 1 1 0 20 4 30 10 -1\n"
            )
        };
        let (far, near): (SocketAddr, SocketAddr) =
            ("127.0.0.1:50000".parse().unwrap(), "127.0.0.1:7440".parse().unwrap());
        let (f, n) = (written(far).unwrap(), written(near).unwrap());
        assert!(f.ends_with(":C350") && n.ends_with(":1D10"), "{f} {n}");
        assert_eq!(owner(&line(&f, &n, "01", 1000), far, near), Some(1000));
        for other in [
            line(&n, &f, "01", 1000),
            line(&f, &n, "05", 0),
            line(&f, &n, "06", 0),
            line(&f, "00000000:1D10", "01", 1000),
            "  sl  local_address rem_address   st\n".to_owned(),
            String::new(),
        ] {
            assert_eq!(owner(&other, far, near), None, "{other}");
        }
    }
}
