//! A registry's image, brought to this host through the gateway before the box of a run is made of it.
//!
//! This process connects nowhere: it asks the gateway for one part after the other over a socket of their own
//! ([`api::images`]), and writes them down by their digests ([`sandbox::image::pulled`]). An image that is here is not
//! asked for.
//!
//! Read [`bring`], [`missing`], then [`Puller`].

use crate::disk::{Disk, Room};
use crate::keeper::Means;
use crate::runs::Run;
use api::frame::MAX_FRAME;
use api::images::{Part, PartEnd};
use model::profile::Engine;
use model::{Event, Profile};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use sandbox::image::Image;
use sandbox::image::pulled::{self, Progress, Source};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the gateway may be silent: longer than it lets a registry be.
const SILENCE: Duration = Duration::from_secs(180);
/// How often is told how far a pull is.
const TELL: Duration = Duration::from_secs(15);

/// How long a pull may wait for a gateway, and how long it may take in all.
const GATEWAY: Duration = Duration::from_secs(60);
const PULL: Duration = Duration::from_secs(3600);

/// Why an image is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// It cannot be had; in words for people.
    Refused(String),
    /// The gateway went, and may be back for the next attempt.
    Lost(String),
}

/// Makes sure that a box can be made of the image of a run's profile: pulls it where it is not here, and says so in the
/// run's transcript. Dropped, it ends the pull.
///
/// # Errors
/// [`Absent`].
pub async fn bring(means: &Arc<Means>, run: &Arc<Run>, profile: &Profile) -> Result<(), Absent> {
    let dir: PathBuf = means.runs.dir().parent().unwrap_or_else(|| means.runs.dir()).to_owned();
    let unknown = |e: io::Error| Absent::Refused(format!("look for the profile's image: {e}"));
    let (at, ours) = (dir.clone(), profile.clone());
    let Some(name) = crate::blocking(move || missing(&at, &ours)).await.map_err(unknown)? else { return Ok(()) };
    let lost = |e: crate::cable::CableError| Absent::Lost(e.to_string());
    means.cable.ready(GATEWAY).await.map_err(lost)?;
    let socket = means.cable.pull(&run.id, &name).await.map_err(lost)?;
    let (_pull, puller) = Pull::over(socket).map_err(unknown)?;
    // Written down here and not by the thread: what is dropped says nothing more.
    let (tell, mut told) = mpsc::unbounded_channel();
    let disk = means.disk.clone();
    let whole = async {
        let work = move || puller.bring(&dir, &name, &disk, &|text| drop(tell.send(text)));
        let mut work = pin!(crate::blocking(work));
        loop {
            tokio::select! {
                biased;
                Some(text) = told.recv() => run.say(&Event::Note { text }).await.map_err(io::Error::other)?,
                end = &mut work => return end,
            };
        }
    };
    match timeout(PULL, whole).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) if is_lost(&e) => Err(Absent::Lost(e.to_string())),
        Ok(Err(e)) => Err(Absent::Refused(e.to_string())),
        Err(_) => Err(Absent::Refused(format!("the profile's image was not pulled within {} s", PULL.as_secs()))),
    }
}

/// The image of a profile that a box cannot be made of before it is pulled; `dir` is the operator's folder. Blocks.
///
/// # Errors
/// The system's own. What is wrong with the name is said when the box is made.
pub fn missing(dir: &Path, profile: &Profile) -> io::Result<Option<String>> {
    let Some(name) = profile.image.as_ref().filter(|_| profile.engine == Engine::Embedded) else { return Ok(None) };
    match Image::parse(name) {
        Ok(Image::Registry(_)) => Ok((!pulled::is_here(dir, name)?).then(|| name.clone())),
        _ => Ok(None),
    }
}

/// A pull that is under way; dropping it ends it.
pub struct Pull(UnixStream);

impl Pull {
    /// One over the socket that the gateway serves; gives the part that does it.
    ///
    /// # Errors
    /// The system's own.
    pub fn over(socket: UnixStream) -> io::Result<(Self, Puller)> {
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        let ours = socket.try_clone()?;
        Ok((Self(ours), Puller(socket)))
    }
}

impl Drop for Pull {
    fn drop(&mut self) {
        if let Err(cause) = self.0.shutdown(Shutdown::Both) {
            tracing::debug!(%cause, "an image's socket was shut before");
        }
    }
}

/// What asks for the parts and writes them down.
pub struct Puller(UnixStream);

impl Puller {
    /// Brings the whole image, for which room is set aside on `disk` meanwhile; `tell` hears now and then how far it is.
    /// Blocks.
    ///
    /// # Errors
    /// Why it could not be, in words for people.
    pub fn bring(self, dir: &Path, name: &str, disk: &Disk, tell: &dyn Fn(String)) -> io::Result<()> {
        let mut bringing = Bringing { puller: self, name, disk, room: None, tell, has_waited: false };
        let mut told = Instant::now();
        let mut said = |now: Progress| {
            if now.done == 0 || told.elapsed() >= TELL {
                told = Instant::now();
                tell(words(name, now));
            }
        };
        pulled::pull(dir, name, &mut bringing, &mut said)
    }
}

fn words(name: &str, now: Progress) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    match now.done {
        0 => format!("the image {name} is not on this host: {} MiB of it are pulled from its registry", mib(now.all)),
        done => format!("of the image {name} {} of {} MiB are here", mib(done), mib(now.all)),
    }
}

fn is_lost(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// The gateway is gone, or does not speak as it should.
fn lost(e: &io::Error) -> io::Error {
    let why = match e.kind() {
        _ if is_lost(e) => "the gateway ended while it was pulled; what came whole is kept for the next run".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the gateway said nothing of it for {} seconds", SILENCE.as_secs())
        }
        _ => format!("the gateway cannot be heard: {e}"),
    };
    io::Error::new(e.kind(), why)
}

impl Puller {
    /// Reads the length of the next frame.
    fn frame(&mut self) -> io::Result<usize> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).map_err(|e| lost(&e))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(lost(&io::Error::other("a frame of it is too long")));
        }
        Ok(length)
    }

    /// That the socket has not been shut, by whoever dropped the pull or by the gateway.
    fn is_wanted(&self) -> io::Result<()> {
        match rustix::net::recv(&self.0, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) | Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(()),
            Err(e) => Err(lost(&e.into())),
        }
    }

    fn part(&mut self, part: &Part, to: &mut dyn Write) -> io::Result<()> {
        let ask = serde_json::to_vec(part)?;
        let length = u32::try_from(ask.len()).map_err(io::Error::other)?.to_le_bytes();
        self.0.write_all(&[&length[..], &ask].concat()).map_err(|e| lost(&e))?;
        let mut bytes = Vec::new();
        loop {
            let length = self.frame()?;
            bytes.resize(length, 0);
            self.0.read_exact(&mut bytes).map_err(|e| lost(&e))?;
            if length == 0 {
                break;
            }
            to.write_all(&bytes)?;
        }
        let length = self.frame()?;
        bytes.resize(length, 0);
        self.0.read_exact(&mut bytes).map_err(|e| lost(&e))?;
        match serde_json::from_slice(&bytes).map_err(|e| lost(&e.into()))? {
            PartEnd::Whole => Ok(()),
            PartEnd::Refused { rule, why } => Err(io::Error::other(format!("{why} ({rule})"))),
        }
    }
}

/// A pull that brings its parts to the disk.
struct Bringing<'a> {
    puller: Puller,
    name: &'a str,
    disk: &'a Disk,
    /// For the layers that are not here yet.
    room: Option<Room>,
    tell: &'a dyn Fn(String),
    has_waited: bool,
}

impl Source for Bringing<'_> {
    fn part(&mut self, part: &Part, to: &mut dyn Write) -> io::Result<()> {
        self.puller.part(part, to)?;
        if let Some(room) = &mut self.room {
            room.used(part.most);
        }
        Ok(())
    }

    fn waits(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_waited, true) {
            (self.tell)(format!("the image {} is being pulled for another run, which this one waits for", self.name));
        }
        self.puller.is_wanted()
    }

    fn set_aside(&mut self, bytes: u64) -> io::Result<()> {
        self.room = Some(self.disk.reserve(bytes, "its layers").map_err(io::Error::other)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::images::PartKind;
    use std::cell::RefCell;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
    }

    /// What comes of one part whose answer is this.
    fn heard(answer: &[Vec<u8>]) -> (Result<(), String>, Vec<u8>) {
        let (ours, mut gateways) = UnixStream::pair().unwrap();
        gateways.write_all(&answer.concat()).unwrap();
        gateways.shutdown(Shutdown::Write).unwrap();
        let (_pull, mut puller) = Pull::over(ours).unwrap();
        let part = Part { digest: "sha256:x".into(), kind: PartKind::Blob, most: 100 };
        let mut came = Vec::new();
        let end = puller.part(&part, &mut came).map_err(|e| e.to_string());
        let mut asked = Vec::new();
        drop((_pull, puller));
        gateways.read_to_end(&mut asked).unwrap();
        assert_eq!(serde_json::from_slice::<Part>(&asked[4..]).unwrap(), part);
        (end, came)
    }

    #[test]
    fn a_part_is_whole_when_the_gateway_says_so_and_not_when_it_ends() {
        let whole = serde_json::to_vec(&PartEnd::Whole).unwrap();
        assert_eq!(heard(&[frame(b"ab"), frame(b"c"), frame(b""), frame(&whole)]), (Ok(()), b"abc".to_vec()));
        assert_eq!(heard(&[frame(b""), frame(&whole)]), (Ok(()), Vec::new()));
        for cut in [&[frame(b"ab")][..], &[frame(b"ab")[..5].to_vec()], &[frame(b"ab"), frame(b"")], &[]] {
            assert!(heard(cut).0.unwrap_err().contains("the gateway ended"), "{cut:?}");
        }
        let refused = serde_json::to_vec(&PartEnd::Refused { rule: "r.x".into(), why: "No.".into() }).unwrap();
        assert_eq!(heard(&[frame(b"ab"), frame(b""), frame(&refused)]).0, Err("No. (r.x)".into()));
        assert!(heard(&[u32::MAX.to_le_bytes().to_vec()]).0.unwrap_err().contains("too long"));
        assert!(heard(&[frame(b""), frame(b"nonsense")]).0.unwrap_err().contains("cannot be heard"));
    }

    #[test]
    fn a_pull_that_is_dropped_ends_whoever_waits_for_a_part() {
        let (ours, _gateways) = UnixStream::pair().unwrap();
        let (pull, mut puller) = Pull::over(ours).unwrap();
        let part = Part { digest: "sha256:x".into(), kind: PartKind::Blob, most: 100 };
        let waiting = std::thread::spawn(move || puller.part(&part, &mut io::sink()).map_err(|e| e.to_string()));
        drop(pull);
        assert!(waiting.join().unwrap().unwrap_err().contains("the gateway ended"));
    }

    #[test]
    fn whoever_waits_for_anothers_pull_is_told_once_and_ends_with_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, told) = (Disk::of(dir.path()), RefCell::new(Vec::new()));
        let tell = |text| told.borrow_mut().push(text);
        let (ours, _gateways) = UnixStream::pair().unwrap();
        let (pull, puller) = Pull::over(ours).unwrap();
        let mut bringing = Bringing { puller, name: "x", disk: &disk, room: None, tell: &tell, has_waited: false };
        bringing.waits().unwrap();
        bringing.waits().unwrap();
        assert_eq!(*told.borrow(), ["the image x is being pulled for another run, which this one waits for"]);
        drop(pull);
        assert!(is_lost(&bringing.waits().unwrap_err()));
    }

    #[test]
    fn a_pull_takes_no_room_that_is_promised_to_a_live_run_and_keeps_its_own_until_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of(dir.path());
        let stat = rustix::fs::statvfs(dir.path()).unwrap();
        let two_thirds = (stat.f_bavail * stat.f_frsize - crate::disk::SPARE) / 3 * 2;
        let (ours, mut gateways) = UnixStream::pair().unwrap();
        let (_pull, puller) = Pull::over(ours).unwrap();
        let mut bringing = Bringing { puller, name: "x", disk: &disk, room: None, tell: &drop, has_waited: false };
        let run = disk.reserve_image(&dir.path().join("a"), two_thirds >> 20).unwrap();
        let why = bringing.set_aside(two_thirds).unwrap_err().to_string();
        assert!(why.contains("its layers need") && why.contains("promised to runs that live"), "{why}");
        drop(run);
        bringing.set_aside(two_thirds).unwrap();
        assert!(disk.reserve_image(&dir.path().join("a"), two_thirds >> 20).is_err());
        // A part came whole: what it was is no longer free, and not counted twice.
        let whole = serde_json::to_vec(&PartEnd::Whole).unwrap();
        gateways.write_all(&[frame(b""), frame(&whole)].concat()).unwrap();
        let part = Part { digest: "sha256:x".into(), kind: PartKind::Blob, most: two_thirds };
        bringing.part(&part, &mut io::sink()).unwrap();
        drop(disk.reserve_image(&dir.path().join("a"), two_thirds >> 20).unwrap());
    }
}
