//! What git says before and around a pack: the list of references that a push begins with, the updates that it asks for,
//! and the report that answers it.
//!
//! Read [`offered`] (the list, as it goes to a box), [`Asked::read`] (the updates), [`report`] (an answer of our own), then
//! [`succeeded`] (an answer of the upstream's).

use super::pkt::{self, Line, Lines, Oid};

/// What a push may use. All else that an upstream offers (deleting, options, signed pushes) is not offered on.
const OFFERED: [&str; 6] = ["report-status", "side-band-64k", "quiet", "ofs-delta", "atomic", "object-format=sha1"];
/// Updates of one push that are read; one is right.
const MAX_UPDATES: usize = 64;
/// Lines about where a shallow clone ends.
const MAX_SHALLOW: usize = 10_000;
/// Longest text of a report, in bytes.
const MAX_WORDS: usize = 900;

/// What is wrong with what git said, as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl From<pkt::Wrong> for Wrong {
    fn from(wrong: pkt::Wrong) -> Self {
        Self(wrong.to_string())
    }
}

fn wrong<T>(why: &str) -> Result<T, Wrong> {
    Err(Wrong(why.to_owned()))
}

/// The upstream's list of references, with the capabilities that are offered on in place of its own. `no-thin` is added:
/// a pack must hold all that its differences are to.
///
/// # Errors
/// [`Wrong`], also for an upstream whose names are not SHA-1.
pub(crate) fn offered(list: &[u8]) -> Result<Vec<u8>, Wrong> {
    let mut lines = Lines::of(list);
    let mut out = Vec::with_capacity(list.len());
    match (lines.next()?, lines.next()?) {
        (Some(Line::Data(data)), Some(Line::Flush)) if pkt::text(data) == b"# service=git-receive-pack" => {}
        _ => return wrong("it does not begin as a list of references does"),
    }
    pkt::line(&mut out, b"# service=git-receive-pack\n");
    pkt::flush(&mut out);
    let mut first = true;
    loop {
        match lines.next()? {
            Some(Line::Data(data)) if first => {
                first = false;
                let text = pkt::text(data);
                let Some(end) = text.iter().position(|b| *b == 0) else {
                    return wrong("it offers no capabilities");
                };
                let capabilities = String::from_utf8_lossy(&text[end + 1..]).into_owned();
                let theirs: Vec<&str> = capabilities.split(' ').collect();
                if theirs.iter().any(|c| c.starts_with("object-format=") && *c != "object-format=sha1") {
                    return wrong(
                        "its objects are named by SHA-256, and what is pushed to such a repository cannot be listed yet; leave the \
                         change in the worktree, and say so: it is the run's result",
                    );
                }
                let ours: Vec<&str> = OFFERED.into_iter().filter(|c| theirs.contains(c)).collect();
                if !ours.contains(&"report-status") {
                    return wrong("it does not say what becomes of a push");
                }
                let line = [&text[..=end], ours.join(" ").as_bytes(), b" no-thin agent=volary\n"].concat();
                pkt::line(&mut out, &line);
            }
            Some(Line::Data(data)) => pkt::line(&mut out, data),
            Some(Line::Flush) if !first && lines.rest().is_empty() => break,
            _ => return wrong("it does not end as a list of references does"),
        }
    }
    pkt::flush(&mut out);
    Ok(out)
}

/// An update as a push asks for it. The name is whatever bytes came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) old: Oid,
    pub(crate) new: Oid,
    pub(crate) reference: Vec<u8>,
}

impl Update {
    /// The name as it may be shown: what is not plain is a question mark.
    pub(crate) fn shown(&self) -> String {
        let plain = |b: &u8| if b.is_ascii_graphic() { char::from(*b) } else { '?' };
        self.reference.iter().take(250).map(plain).collect()
    }
}

/// What a push asks for, before its pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) updates: Vec<Update>,
    pub(crate) shallow: Vec<Oid>,
    /// The report is to come beside progress.
    pub(crate) side_band: bool,
    pub(crate) atomic: bool,
    pub(crate) quiet: bool,
    /// Where what follows begins.
    pub(crate) pack_at: usize,
}

impl Asked {
    /// Reads a push. None when it asks for nothing at all, by which git finds out whether it may ask.
    ///
    /// # Errors
    /// [`Wrong`], for whatever was not offered too.
    pub(crate) fn read(body: &[u8]) -> Result<Option<Self>, Wrong> {
        let mut lines = Lines::of(body);
        let mut asked = Self {
            updates: Vec::new(),
            shallow: Vec::new(),
            side_band: false,
            atomic: false,
            quiet: false,
            pack_at: 0,
        };
        loop {
            let data = match lines.next()? {
                Some(Line::Data(data)) => data,
                Some(Line::Flush) => break,
                _ => return wrong("it has no end"),
            };
            if asked.updates.is_empty()
                && let Some(oid) = data.strip_prefix(b"shallow ")
            {
                let Some(oid) = Oid::parse(pkt::text(oid)) else { return wrong("a shallow line names no commit") };
                if asked.shallow.len() >= MAX_SHALLOW {
                    return wrong("it has too many shallow lines");
                }
                asked.shallow.push(oid);
                continue;
            }
            if data.starts_with(b"push-cert") {
                return wrong("it is signed, which was not offered");
            }
            let command = match data.iter().position(|b| *b == 0) {
                Some(end) if asked.updates.is_empty() => {
                    asked.capabilities(&data[end + 1..])?;
                    &data[..end]
                }
                Some(_) => return wrong("only its first update says what it uses"),
                None if asked.updates.is_empty() => return wrong("it does not say what it uses"),
                None => pkt::text(data),
            };
            let (Some(old), Some(new)) =
                (command.get(..40).and_then(Oid::parse), command.get(41..81).and_then(Oid::parse))
            else {
                return wrong("an update names no objects");
            };
            if command[40] != b' ' || command.get(81) != Some(&b' ') || command.len() < 83 {
                return wrong("an update names no reference");
            }
            if asked.updates.len() >= MAX_UPDATES {
                return wrong("it has too many updates");
            }
            asked.updates.push(Update { old, new, reference: command[82..].to_vec() });
        }
        let pack = lines.rest();
        asked.pack_at = body.len() - pack.len();
        if asked.updates.is_empty() {
            return if pack.is_empty() && asked.shallow.is_empty() { Ok(None) } else { wrong("it asks for no update") };
        }
        Ok(Some(asked))
    }

    fn capabilities(&mut self, text: &[u8]) -> Result<(), Wrong> {
        let text = String::from_utf8_lossy(pkt::text(text)).into_owned();
        for capability in text.split(' ').filter(|c| !c.is_empty()) {
            match capability {
                "side-band-64k" => self.side_band = true,
                "atomic" => self.atomic = true,
                "quiet" => self.quiet = true,
                "report-status" | "ofs-delta" | "object-format=sha1" => {}
                _ if capability.starts_with("agent=") || capability.starts_with("session-id=") => {}
                _ => return Err(Wrong("it uses what was not offered".to_owned())),
            }
        }
        Ok(())
    }

    /// The same in our own words, as it goes to the upstream: one update, then the pack that `body` ends with.
    pub(crate) fn written(&self, update: &Update, body: &[u8]) -> Vec<u8> {
        let pack = body.get(self.pack_at..).unwrap_or_default();
        let mut out = Vec::with_capacity(pack.len() + 512);
        for oid in &self.shallow {
            pkt::line(&mut out, format!("shallow {oid}").as_bytes());
        }
        let mut line = format!("{} {} ", update.old, update.new).into_bytes();
        line.extend_from_slice(&update.reference);
        line.push(0);
        line.extend_from_slice(b" report-status");
        for (is, word) in [(self.side_band, " side-band-64k"), (self.atomic, " atomic"), (self.quiet, " quiet")] {
            if is {
                line.extend_from_slice(word.as_bytes());
            }
        }
        line.extend_from_slice(b" object-format=sha1 agent=volary");
        pkt::line(&mut out, &line);
        pkt::flush(&mut out);
        out.extend_from_slice(pack);
        out
    }
}

/// The report that says no to every update, in words for whoever reads git's output.
pub(crate) fn report(asked: &Asked, rule: &str, why: &str) -> Vec<u8> {
    let why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let why = &why[..why.floor_char_boundary(MAX_WORDS)];
    let mut status = Vec::new();
    pkt::line(&mut status, b"unpack ok\n");
    for update in &asked.updates {
        let mut line = b"ng ".to_vec();
        // git finds its update by this very name; one that would break the report is left out, and fails all the same.
        if update.reference.contains(&b'\n') || update.reference.len() > 4096 {
            continue;
        }
        line.extend_from_slice(&update.reference);
        line.extend_from_slice(format!(" refused by policy ({rule})\n").as_bytes());
        pkt::line(&mut status, &line);
    }
    pkt::flush(&mut status);
    if !asked.side_band {
        return status;
    }
    let mut out = Vec::new();
    pkt::line(&mut out, &[&[2], format!("Refused by policy, rule {rule}: {why}\n").as_bytes()].concat());
    for piece in status.chunks(60_000) {
        pkt::line(&mut out, &[&[1], piece].concat());
    }
    pkt::flush(&mut out);
    out
}

/// Whether an upstream's report says that this update was made.
pub(crate) fn succeeded(answer: &[u8], side_band: bool, update: &Update) -> bool {
    let mut status = Vec::new();
    if side_band {
        let mut lines = Lines::of(answer);
        while let Ok(Some(line)) = lines.next() {
            match line {
                Line::Data([1, rest @ ..]) => status.extend_from_slice(rest),
                Line::Data(_) => {}
                _ => break,
            }
        }
    } else {
        status.extend_from_slice(answer);
    }
    let mut lines = Lines::of(&status);
    let unpacked = matches!(lines.next(), Ok(Some(Line::Data(data))) if pkt::text(data) == b"unpack ok");
    let done = [b"ok ", update.reference.as_slice()].concat();
    unpacked && matches!(lines.next(), Ok(Some(Line::Data(data))) if pkt::text(data) == done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const A: &str = "1111111111111111111111111111111111111111";

    fn wire(lines: &[&[u8]], pack: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lines.iter().for_each(|line| pkt::line(&mut out, line));
        pkt::flush(&mut out);
        out.extend_from_slice(pack);
        out
    }

    #[test]
    fn a_push_is_read_as_git_writes_it_and_goes_on_in_our_words() {
        let command =
            format!("{ZERO} {A} refs/heads/x\0 report-status side-band-64k object-format=sha1 agent=git/2.47");
        let shallow = format!("shallow {A}");
        let body = wire(&[shallow.as_bytes(), command.as_bytes()], b"PACK..");
        let asked = Asked::read(&body).unwrap().unwrap();
        assert_eq!((asked.updates.len(), asked.shallow.len(), asked.side_band), (1, 1, true));
        assert_eq!(asked.updates[0].reference, b"refs/heads/x");
        assert_eq!(&body[asked.pack_at..], b"PACK..");
        let written = asked.written(&asked.updates[0], &body);
        let again = Asked::read(&written).unwrap().unwrap();
        assert_eq!(&written[again.pack_at..], b"PACK..");
        assert_eq!(again, Asked { pack_at: again.pack_at, ..asked.clone() });
        assert_eq!(Asked::read(b"0000"), Ok(None));
    }

    #[test]
    fn what_was_not_offered_is_not_taken() {
        let command = |more: &str| format!("{ZERO} {A} refs/heads/x\0{more}");
        for (more, word) in [
            (" report-status push-options", "not offered"),
            (" report-status delete-refs", "not offered"),
            (" object-format=sha256", "not offered"),
        ] {
            let body = wire(&[command(more).as_bytes()], b"");
            assert!(Asked::read(&body).unwrap_err().0.contains(word), "{more}");
        }
        let (one, two) = (command(" report-status"), command(" report-status"));
        for (lines, word) in [
            (vec![one.as_bytes(), two.as_bytes()], "first update"),
            (vec![&b"push-cert\0report-status"[..]], "signed"),
            (vec![&one.as_bytes()[..60]], "what it uses"),
            (vec![b"shallow 12"], "shallow"),
            (vec![b"x\0report-status"], "names no objects"),
        ] {
            assert!(Asked::read(&wire(&lines, b"")).unwrap_err().0.contains(word), "{word}");
        }
        assert!(Asked::read(b"0000PACK").is_err());
        assert!(Asked::read(b"").is_err());
    }

    #[test]
    fn a_list_goes_on_with_what_is_offered_and_nothing_else() {
        let mut list = Vec::new();
        pkt::line(&mut list, b"# service=git-receive-pack\n");
        pkt::flush(&mut list);
        let first =
            format!("{A} refs/heads/main\0report-status delete-refs side-band-64k push-options ofs-delta agent=git");
        pkt::line(&mut list, first.as_bytes());
        pkt::line(&mut list, format!("{A} refs/heads/two\n").as_bytes());
        pkt::flush(&mut list);
        let ours = String::from_utf8(offered(&list).unwrap()).unwrap();
        assert!(ours.contains("\0report-status side-band-64k ofs-delta no-thin agent=volary\n"), "{ours}");
        assert!(ours.contains("refs/heads/two") && !ours.contains("delete-refs") && !ours.contains("push-options"));
        let other =
            String::from_utf8(list.clone()).unwrap().replace("push-options ofs-delta", "object-format=sha256 x ");
        assert!(offered(other.as_bytes()).is_err());
        assert!(offered(&list[..list.len() - 4]).is_err());
        assert!(offered(b"<html>").is_err());
    }

    #[test]
    fn a_report_says_no_to_each_update_and_is_read_back() {
        let command = format!("{ZERO} {A} refs/heads/x\0 report-status side-band-64k");
        let body = wire(&[command.as_bytes()], b"");
        let asked = Asked::read(&body).unwrap().unwrap();
        let said = report(&asked, "git.branch", "This branch is not yours.");
        let text = String::from_utf8_lossy(&said).into_owned();
        assert!(text.contains("rule git.branch: This branch") && text.contains("ng refs/heads/x refused"), "{text}");
        assert!(!succeeded(&said, true, &asked.updates[0]));
        let mut status = Vec::new();
        pkt::line(&mut status, b"unpack ok\n");
        pkt::line(&mut status, b"ok refs/heads/x\n");
        pkt::flush(&mut status);
        assert!(succeeded(&status, false, &asked.updates[0]));
        let mut band = Vec::new();
        pkt::line(&mut band, b"\x02remote words\n");
        pkt::line(&mut band, &[&[1], &status[..]].concat());
        pkt::flush(&mut band);
        assert!(succeeded(&band, true, &asked.updates[0]));
    }

    proptest! {
        #[test]
        fn any_bytes_as_a_push_a_list_or_a_report_have_a_word(bytes in prop::collection::vec(any::<u8>(), 0..500), digits in "[0-9a-f]{0,90}") {
            let mut lines = Vec::new();
            pkt::line(&mut lines, &bytes);
            pkt::line(&mut lines, digits.as_bytes());
            pkt::flush(&mut lines);
            for bytes in [&bytes, &lines] {
                if let Ok(Some(asked)) = Asked::read(bytes) {
                    prop_assert!(!asked.updates.is_empty());
                    prop_assert!(!report(&asked, "r", "w").is_empty());
                    prop_assert!(Asked::read(&asked.written(&asked.updates[0], bytes)).is_ok());
                }
                drop(offered(bytes));
            }
        }
    }
}
