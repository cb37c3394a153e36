//! A pack, read for what it changes: its commits and trees whole, of its files only how long they are.
//!
//! Total: any bytes have an end and a word, in bounded memory and time. Nothing is trusted of what a pack says about
//! itself; a name is the SHA-1 of what was read.
//!
//! Read [`read`], then [`Packed`].

use super::delta::applied;
use super::pkt::Oid;
use aws_lc_rs::digest;
use flate2::{Decompress, FlushDecompress, Status};
use model::Author;
use std::collections::HashMap;

/// Objects of one pack.
pub(crate) const MAX_OBJECTS: u32 = 500_000;
/// What all objects of one pack come to unpacked, in bytes.
pub(crate) const MAX_UNPACKED: u64 = 2 << 30;
/// Longest commit or tree, and longest difference between two, in bytes.
pub(crate) const MAX_KEPT_ONE: u64 = 16 << 20;
/// Commits, trees and differences that are held at once, in bytes.
pub(crate) const MAX_KEPT: u64 = 64 << 20;
/// Bytes that are unpacked at a time of what is not kept.
const PIECE: usize = 32 * 1024;

/// What is wrong with a pack, as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) &'static str);

/// A commit, as far as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: Oid,
    pub(crate) parents: Vec<Oid>,
    /// `Name <address>` of its author, then of its committer; of a commit that is none, whatever it says.
    by: Vec<Vec<u8>>,
    /// The last lines of its message that have a key, from the end to the first blank one.
    trailers: Vec<Vec<u8>>,
}

impl Commit {
    /// Whether it is this author's, and names the agent if it must.
    pub(crate) fn is_by(&self, author: &Author) -> bool {
        let identity = author.identity();
        let named = |line: &String| self.trailers.iter().any(|trailer| trailer == line.as_bytes());
        self.by.len() == 2
            && self.by.iter().all(|by| by == identity.as_bytes())
            && author.trailer.as_ref().is_none_or(named)
    }
}

/// What a pack holds.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) commits: HashMap<Oid, Commit>,
    pub(crate) trees: HashMap<Oid, Vec<u8>>,
    /// Annotated tags, by what they stand for.
    pub(crate) tags: HashMap<Oid, Oid>,
    /// How many objects of all kinds.
    pub(crate) objects: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Commit,
    Tree,
    Tag,
}

/// What is known of one entry.
enum Entry {
    /// Its content is a file's, and not held.
    Blob,
    /// A commit, tree or tag, whole.
    Whole(Kind, Vec<u8>),
    /// A difference to an object that is not known yet.
    Waits(Vec<u8>),
}

/// Reads a pack whole.
///
/// # Errors
/// [`Wrong`].
pub(crate) fn read(pack: &[u8]) -> Result<Packed, Wrong> {
    let mut reading = Reading::begin(pack)?;
    for _ in 0..reading.count {
        reading.entry()?;
    }
    if reading.at != reading.body.len() {
        return Err(Wrong("something follows its last object"));
    }
    reading.resolve()?;
    reading.packed()
}

struct Reading<'p> {
    body: &'p [u8],
    at: usize,
    count: u32,
    unpacked: u64,
    kept: u64,
    entries: Vec<Entry>,
    /// Entries by the place where they begin.
    places: HashMap<usize, usize>,
    /// Entries by their name, of those that are whole.
    named: HashMap<Oid, usize>,
    /// Differences that wait, by the name, or the entry, of what they are to.
    to_name: HashMap<Oid, Vec<usize>>,
    to_entry: HashMap<usize, Vec<usize>>,
    inflate: Decompress,
}

impl<'p> Reading<'p> {
    fn begin(pack: &'p [u8]) -> Result<Self, Wrong> {
        let end = pack.len().checked_sub(20).filter(|end| *end >= 12).ok_or(Wrong("it is cut"))?;
        let (body, sum) = pack.split_at(end);
        if sha1(&[body]).0 != sum {
            return Err(Wrong("its checksum is another"));
        }
        let word = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
        if &body[..4] != b"PACK" || word(4) != 2 {
            return Err(Wrong("it is no pack of version 2"));
        }
        let count = word(8);
        if count > MAX_OBJECTS {
            return Err(Wrong("it holds more than 500,000 objects"));
        }
        Ok(Self {
            body,
            at: 12,
            count,
            unpacked: 0,
            kept: 0,
            entries: Vec::new(),
            places: HashMap::new(),
            named: HashMap::new(),
            to_name: HashMap::new(),
            to_entry: HashMap::new(),
            inflate: Decompress::new(true),
        })
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let byte = *self.body.get(self.at).ok_or(Wrong("it is cut"))?;
        self.at += 1;
        Ok(byte)
    }

    fn entry(&mut self) -> Result<(), Wrong> {
        let place = self.at;
        let first = self.byte()?;
        let mut size = u64::from(first & 15);
        let (mut shift, mut more) = (4, first & 128 != 0);
        while more {
            let byte = self.byte()?;
            if shift > 50 {
                return Err(Wrong("an object has a length that is none"));
            }
            size |= u64::from(byte & 127) << shift;
            shift += 7;
            more = byte & 128 != 0;
        }
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > MAX_UNPACKED {
            return Err(Wrong("it unpacks to more than 2 GiB"));
        }
        let index = self.entries.len();
        let entry = match first >> 4 & 7 {
            1 => Entry::Whole(Kind::Commit, self.kept(size)?),
            2 => Entry::Whole(Kind::Tree, self.kept(size)?),
            3 => {
                self.passed(size)?;
                Entry::Blob
            }
            4 => Entry::Whole(Kind::Tag, self.kept(size)?),
            6 => self.relative(place, index, size)?,
            7 => {
                let name = self.body.get(self.at..self.at + 20).ok_or(Wrong("it is cut"))?;
                let name = Oid(name.try_into().map_err(|_| Wrong("it is cut"))?);
                self.at += 20;
                let difference = self.kept(size)?;
                self.to_name.entry(name).or_default().push(index);
                Entry::Waits(difference)
            }
            _ => return Err(Wrong("an object is of a kind that is none")),
        };
        self.places.insert(place, index);
        if let Entry::Whole(kind, content) = &entry {
            self.named.insert(name_of(*kind, content), index);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// A difference to an entry before it.
    fn relative(&mut self, place: usize, index: usize, size: u64) -> Result<Entry, Wrong> {
        let mut byte = self.byte()?;
        let mut back = u64::from(byte & 127);
        while byte & 128 != 0 {
            byte = self.byte()?;
            if back > 1 << 40 {
                return Err(Wrong("a difference is to a place that is none"));
            }
            back = (back + 1) << 7 | u64::from(byte & 127);
        }
        let base = usize::try_from(back).ok().and_then(|back| place.checked_sub(back));
        let base = base.and_then(|base| self.places.get(&base)).copied();
        let base = base.ok_or(Wrong("a difference is to a place where no object begins"))?;
        match &self.entries[base] {
            Entry::Blob => {
                self.passed(size)?;
                Ok(Entry::Blob)
            }
            Entry::Waits(_) => {
                let difference = self.kept(size)?;
                self.to_entry.entry(base).or_default().push(index);
                Ok(Entry::Waits(difference))
            }
            Entry::Whole(..) => {
                let difference = self.kept(size)?;
                self.forget(difference.len());
                let Entry::Whole(kind, content) = &self.entries[base] else { return Err(Wrong("it is cut")) };
                let (kind, content) = (*kind, applied(content, &difference)?);
                self.hold(content.len() as u64)?;
                Ok(Entry::Whole(kind, content))
            }
        }
    }

    fn hold(&mut self, bytes: u64) -> Result<(), Wrong> {
        self.kept = self.kept.saturating_add(bytes);
        if bytes > MAX_KEPT_ONE || self.kept > MAX_KEPT {
            return Err(Wrong("its commits and folders are too much to look at"));
        }
        Ok(())
    }

    fn forget(&mut self, bytes: usize) {
        self.kept = self.kept.saturating_sub(bytes as u64);
    }

    /// The next `size` unpacked bytes.
    fn kept(&mut self, size: u64) -> Result<Vec<u8>, Wrong> {
        self.hold(size)?;
        let size = usize::try_from(size).map_err(|_| Wrong("an object has a length that is none"))?;
        let mut out = Vec::with_capacity(size.min(1 << 16));
        self.unpack(size as u64, |piece| out.extend_from_slice(piece))?;
        Ok(out)
    }

    /// Passes over the next `size` unpacked bytes.
    fn passed(&mut self, size: u64) -> Result<(), Wrong> {
        self.unpack(size, |_| {})
    }

    fn unpack(&mut self, size: u64, mut each: impl FnMut(&[u8])) -> Result<(), Wrong> {
        let bad = || Wrong("an object cannot be unpacked");
        self.inflate.reset(true);
        let mut piece = [0; PIECE];
        loop {
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let rest = &self.body[self.at..];
            let status = self.inflate.decompress(rest, &mut piece, FlushDecompress::None).map_err(|_| bad())?;
            let taken = self.inflate.total_in() - before_in;
            let given = usize::try_from(self.inflate.total_out() - before_out).map_err(|_| bad())?;
            self.at += usize::try_from(taken).map_err(|_| bad())?;
            each(&piece[..given]);
            if self.inflate.total_out() > size {
                return Err(Wrong("an object is longer than it says"));
            }
            match status {
                Status::StreamEnd if self.inflate.total_out() == size => return Ok(()),
                Status::StreamEnd => return Err(Wrong("an object is shorter than it says")),
                _ if taken == 0 && given == 0 => return Err(Wrong("it is cut")),
                _ => {}
            }
        }
    }

    /// Resolves the differences that wait for what has become known; each once.
    fn resolve(&mut self) -> Result<(), Wrong> {
        let mut ready: Vec<usize> = self.named.values().copied().collect();
        while let Some(base) = ready.pop() {
            let Entry::Whole(kind, content) = &self.entries[base] else { continue };
            let (kind, name) = (*kind, name_of(*kind, content));
            let mut waiting = self.to_name.remove(&name).unwrap_or_default();
            waiting.extend(self.to_entry.remove(&base).unwrap_or_default());
            for index in waiting {
                let (Entry::Whole(_, content), Entry::Waits(difference)) = (&self.entries[base], &self.entries[index])
                else {
                    continue;
                };
                let content = applied(content, difference)?;
                let gone = difference.len();
                self.forget(gone);
                self.hold(content.len() as u64)?;
                self.named.insert(name_of(kind, &content), index);
                self.entries[index] = Entry::Whole(kind, content);
                ready.push(index);
            }
        }
        Ok(())
    }

    /// What is left waiting is a difference to a file, or to an object that is not in the pack: whoever needs it does
    /// not find it, and refuses.
    fn packed(self) -> Result<Packed, Wrong> {
        let mut packed = Packed { objects: self.count, ..Packed::default() };
        for entry in self.entries {
            let Entry::Whole(kind, content) = entry else { continue };
            let name = name_of(kind, &content);
            match kind {
                Kind::Commit => {
                    packed.commits.insert(name, commit(&content)?);
                }
                Kind::Tree => {
                    packed.trees.insert(name, content);
                }
                Kind::Tag => {
                    let of = content.strip_prefix(b"object ").and_then(|rest| Oid::parse(rest.get(..40)?));
                    packed.tags.insert(name, of.ok_or(Wrong("a tag in it names no object"))?);
                }
            }
        }
        Ok(packed)
    }
}

fn sha1(parts: &[&[u8]]) -> Oid {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut name = [0; 20];
    name.copy_from_slice(context.finish().as_ref());
    Oid(name)
}

fn name_of(kind: Kind, content: &[u8]) -> Oid {
    let word = match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Tag => "tag",
    };
    sha1(&[format!("{word} {}\0", content.len()).as_bytes(), content])
}

/// Lines of a message's end that are looked at.
const MAX_TRAILERS: usize = 50;

/// A commit's first lines (its tree, its parents, who made it), and the last ones of its message.
fn commit(content: &[u8]) -> Result<Commit, Wrong> {
    let wrong = || Wrong("a commit in it names no tree");
    let end = content.windows(2).position(|two| two == b"\n\n");
    let (head, message) = end.map_or((content, &b""[..]), |end| (&content[..end], &content[end + 2..]));
    let mut lines = head.split(|b| *b == b'\n');
    let tree = lines.next().and_then(|line| Oid::parse(line.strip_prefix(b"tree ")?)).ok_or_else(wrong)?;
    let (mut parents, mut by) = (Vec::new(), Vec::new());
    for line in lines {
        if let Some(parent) = line.strip_prefix(b"parent ").filter(|_| by.is_empty()) {
            parents.push(Oid::parse(parent).ok_or_else(wrong)?);
        }
        if let Some(who) = line.strip_prefix(b"author ").or_else(|| line.strip_prefix(b"committer ")) {
            let end = who.iter().rposition(|b| *b == b'>').map_or(who.len(), |end| end + 1);
            by.push(who[..end].to_vec());
        }
    }
    let last = message.rsplit(|b| *b == b'\n').skip_while(|line| line.trim_ascii().is_empty());
    let last = last.take_while(|line| !line.trim_ascii().is_empty()).take(MAX_TRAILERS);
    let trailers = last.map(|line| line.trim_ascii_end()).filter(|line| line.contains(&b':')).map(<[u8]>::to_vec);
    Ok(Commit { tree, parents, by, trailers: trailers.collect() })
}

#[cfg(test)]
pub(super) mod tests;
