//! What an upstream has, asked of it to list what a push would change: the trees of its default branch, of where the run
//! started, and of what the pushed commits stand on. Commits and trees alone, where the upstream can leave files out.
//!
//! Read [`look`].

use super::Turn;
use super::pack::{self, Packed};
use super::pkt::{self, Line, Lines, Oid};
use super::push::Update;
use super::upstream::{Upstream, Wanted};
use crate::Gate;
use crate::refusal::Refusal;
use bytes::Bytes;
use http::{Method, StatusCode};
use model::Author;
use std::collections::{HashMap, HashSet};

/// Longest list of what an upstream can do, or of one reference, in bytes.
const MAX_LIST: usize = 1 << 20;
/// Longest pack of trees that is taken, in bytes.
const MAX_TREES: usize = 64 << 20;
/// Commits that are asked for beside those that are compared with.
const MAX_WANTED: usize = 64;
/// Commits of which the upstream is asked whether it has them. What is beyond that counts as new to it.
const MAX_ASKED: usize = 512;

/// What a push stands on.
pub(super) struct Looked {
    /// The trees that it is compared with.
    pub(super) bases: Vec<Oid>,
    /// The tree of what is to be pushed.
    pub(super) tip: Oid,
    /// Every tree that is known of the push and of what it is compared with.
    pub(super) trees: HashMap<Oid, Vec<u8>>,
    /// What is known of its commits.
    pub(super) commits: Commits,
}

/// The commits of a push.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// What the reference is at the upstream now.
    pub(super) there: Option<Oid>,
    /// The upstream has not had what is pushed before: where a branch stands there later, this push was taken.
    pub(super) fresh: bool,
    /// Those that are new to the upstream.
    pub(super) count: usize,
    /// Those of them that are not the author's.
    pub(super) others: Vec<Oid>,
    /// The one commit that the new ones stand on.
    pub(super) onto: Option<Oid>,
}

/// What is asked about.
pub(super) struct Pushed<'p> {
    pub(super) update: &'p Update,
    /// The same, as text.
    pub(super) reference: &'p str,
    /// The commit that the run started from.
    pub(super) base: Option<Oid>,
    /// Whose commits they must be.
    pub(super) author: &'p Author,
}

fn unlisted(why: impl std::fmt::Display) -> Refusal {
    let why = format!("What the push changes cannot be listed, and so it does not go on: {why}.");
    Refusal::policy("git.unlisted", why)
}

/// Asks the upstream for what `packed` stands on, so that the change that a push makes can be listed, and what of it is new.
///
/// # Errors
/// `git.unlisted`, and those of [`Upstream::ask`].
pub(super) async fn look(
    gate: &Gate,
    upstream: &mut Upstream,
    packed: Packed,
    pushed: Pushed<'_>,
    turn: &Turn,
) -> Result<Looked, Refusal> {
    let Pushed { update, reference, base, author } = pushed;
    let can_filter = features(gate, upstream).await?;
    let (head, there) = references(gate, upstream, reference).await?;
    // An annotated tag stands for what it names.
    let (tip, old) = (packed.tags.get(&update.new).copied().unwrap_or(update.new), update.old);
    let mut others: Vec<Oid> =
        packed.commits.iter().filter(|(_, commit)| !commit.is_by(author)).map(|(oid, _)| *oid).collect();
    others.sort_unstable();
    let asked = asked_about(tip, &others, |oid| packed.commits.contains_key(oid));
    let known = match head {
        Some(head) if !asked.is_empty() => known(gate, upstream, head, &asked, can_filter).await?,
        _ => HashSet::new(),
    };
    let known: HashSet<Oid> = known.into_iter().filter(|oid| packed.commits.contains_key(oid)).collect();
    let is_new = |oid: &Oid| packed.commits.contains_key(oid) && !known.contains(oid);
    let new = packed.commits.iter().filter(|(oid, _)| is_new(oid));
    let under: HashSet<Oid> =
        new.flat_map(|(_, commit)| commit.parents.iter().copied()).filter(|oid| !is_new(oid)).collect();
    others.retain(is_new);
    let of_commits = Commits {
        there,
        fresh: is_new(&tip),
        count: packed.commits.len() - known.len(),
        others,
        onto: under.iter().next().copied().filter(|_| under.len() == 1),
    };
    let Packed { mut commits, mut trees, .. } = packed;
    let compared: Vec<Oid> = head.into_iter().chain(base).collect();
    let mut wanted: Vec<Oid> = compared.clone();
    wanted.extend((old != Oid::ZERO).then_some(old));
    wanted.push(tip);
    wanted.extend(commits.values().flat_map(|commit| commit.parents.iter().copied()));
    let mut seen = HashSet::new();
    wanted.retain(|oid| !commits.contains_key(oid) && seen.insert(*oid));
    if wanted.len() > MAX_WANTED {
        return Err(unlisted("its commits stand on too many others"));
    }
    if !wanted.is_empty() {
        let theirs = fetched(gate, upstream, &wanted, can_filter, turn).await?;
        commits.extend(theirs.commits);
        trees.extend(theirs.trees);
    }
    let tree_of = |oid: &Oid| commits.get(oid).map(|commit| commit.tree);
    let bases =
        compared.iter().map(|oid| tree_of(oid).ok_or_else(|| unlisted("the upstream does not give its own commit")));
    let bases = bases.collect::<Result<Vec<_>, _>>()?;
    let tip = tree_of(&tip).ok_or_else(|| unlisted("the pack does not hold the commit that is pushed"))?;
    Ok(Looked { bases, tip, trees, commits: of_commits })
}

/// Asks what the upstream can do: whether it leaves files out when it is asked to.
async fn features(gate: &Gate, upstream: &mut Upstream) -> Result<bool, Refusal> {
    let wanted = Wanted {
        method: Method::GET,
        path: "/info/refs?service=git-upload-pack",
        kind: None,
        answer: "application/x-git-upload-pack-advertisement",
        two: true,
        body: Bytes::new(),
    };
    let response = upstream.ask(gate, wanted).await?;
    let said = upstream.whole(response, 16 * MAX_LIST).await?;
    let share = &upstream.share;
    share
        .weighed(said.len(), move || features_in(&said))
        .await
        .ok_or_else(|| unlisted("what the upstream can do could not be read"))?
}

fn features_in(said: &[u8]) -> Result<bool, Refusal> {
    let (mut lines, mut is_two, mut can_filter) = (Lines::of(said), false, false);
    while let Ok(Some(line)) = lines.next() {
        let Line::Data(data) = line else { continue };
        let text = pkt::text(data);
        is_two |= text == b"version 2";
        if let Some(features) = text.strip_prefix(b"fetch=") {
            can_filter = features.split(|b| *b == b' ').any(|feature| feature == b"filter");
        }
        if text.starts_with(b"object-format=") && text != b"object-format=sha1" {
            return Err(unlisted("the upstream's objects are named by another hash than SHA-1"));
        }
    }
    if is_two { Ok(can_filter) } else { Err(unlisted("the upstream does not speak version 2 of git's protocol")) }
}

async fn post(gate: &Gate, upstream: &mut Upstream, body: Vec<u8>, most: usize) -> Result<Vec<u8>, Refusal> {
    let wanted = Wanted {
        method: Method::POST,
        path: "/git-upload-pack",
        kind: Some("application/x-git-upload-pack-request"),
        answer: "application/x-git-upload-pack-result",
        two: true,
        body: body.into(),
    };
    let response = upstream.ask(gate, wanted).await?;
    upstream.whole(response, most).await
}

/// The commit of the upstream's default branch, none in an empty repository; and what `reference` is there.
async fn references(
    gate: &Gate,
    upstream: &mut Upstream,
    reference: &str,
) -> Result<(Option<Oid>, Option<Oid>), Refusal> {
    let mut body = Vec::new();
    pkt::line(&mut body, b"command=ls-refs\n");
    pkt::line(&mut body, b"agent=volary");
    pkt::line(&mut body, b"object-format=sha1");
    body.extend_from_slice(b"0001");
    pkt::line(&mut body, b"ref-prefix HEAD\n");
    pkt::line(&mut body, format!("ref-prefix {reference}\n").as_bytes());
    pkt::flush(&mut body);
    let said = post(gate, upstream, body, MAX_LIST).await?;
    let name = [b" ", reference.as_bytes()].concat();
    let (mut lines, mut head, mut there) = (Lines::of(&said), None, None);
    while let Some(line) = lines.next().map_err(unlisted)? {
        let Line::Data(data) = line else { continue };
        let text = pkt::text(data);
        // In an empty repository HEAD is said to be unborn by some.
        if let Some(oid) = text.strip_suffix(b" HEAD").filter(|oid| *oid != b"unborn") {
            let named = Oid::parse(oid).ok_or_else(|| unlisted("the upstream's default branch names no commit"))?;
            head = Some(named);
        } else if let Some(oid) = text.strip_suffix(&name[..]) {
            there = Some(Oid::parse(oid).ok_or_else(|| unlisted("the upstream's branch names no commit"))?);
        }
        if text.starts_with(b"ERR ") {
            return Err(unlisted("the upstream refused to say what it has"));
        }
    }
    Ok((head, there))
}

/// The commits of a pack of which the upstream is asked whether it has them: the pushed one first, then those of others.
fn asked_about(tip: Oid, others: &[Oid], is_packed: impl Fn(&Oid) -> bool) -> Vec<Oid> {
    let all = [tip].into_iter().chain(others.iter().copied().filter(|oid| *oid != tip));
    all.filter(is_packed).take(MAX_ASKED).collect()
}

/// Those of `asked` that the upstream has.
async fn known(
    gate: &Gate,
    upstream: &mut Upstream,
    head: Oid,
    asked: &[Oid],
    can_filter: bool,
) -> Result<HashSet<Oid>, Refusal> {
    let mut body = Vec::new();
    pkt::line(&mut body, b"command=fetch");
    pkt::line(&mut body, b"agent=volary");
    pkt::line(&mut body, b"object-format=sha1");
    body.extend_from_slice(b"0001");
    pkt::line(&mut body, b"no-progress");
    pkt::line(&mut body, format!("want {head}\n").as_bytes());
    for oid in asked {
        pkt::line(&mut body, format!("have {oid}\n").as_bytes());
    }
    // Should it think that this is enough to send objects, they are few, and passed over.
    pkt::line(&mut body, b"deepen 1");
    if can_filter {
        pkt::line(&mut body, b"filter blob:none");
    }
    pkt::flush(&mut body);
    let said = post(gate, upstream, body, MAX_TREES + MAX_LIST).await?;
    let read = upstream.share.weighed(said.len(), move || acknowledged(&said)).await;
    read.ok_or_else(|| unlisted("what the upstream has could not be read"))?
}

/// The commits that an answer to a fetch says are there.
fn acknowledged(said: &[u8]) -> Result<HashSet<Oid>, Refusal> {
    let (mut lines, mut inside, mut all) = (Lines::of(said), false, HashSet::new());
    while let Some(line) = lines.next().map_err(unlisted)? {
        let Line::Data(data) = line else { break };
        let text = pkt::text(data);
        if text.starts_with(b"ERR ") {
            return Err(unlisted("the upstream refused to say what it has"));
        }
        if !inside && text != b"acknowledgments" {
            break;
        }
        inside = true;
        all.extend(text.strip_prefix(b"ACK ").and_then(Oid::parse));
    }
    Ok(all)
}

/// The commits that are wanted, with their trees.
async fn fetched(
    gate: &Gate,
    upstream: &mut Upstream,
    wanted: &[Oid],
    can_filter: bool,
    turn: &Turn,
) -> Result<Packed, Refusal> {
    let mut body = Vec::new();
    pkt::line(&mut body, b"command=fetch");
    pkt::line(&mut body, b"agent=volary");
    pkt::line(&mut body, b"object-format=sha1");
    body.extend_from_slice(b"0001");
    pkt::line(&mut body, b"no-progress");
    pkt::line(&mut body, b"ofs-delta");
    for oid in wanted {
        pkt::line(&mut body, format!("want {oid}\n").as_bytes());
    }
    pkt::line(&mut body, b"deepen 1");
    if can_filter {
        pkt::line(&mut body, b"filter blob:none");
    }
    pkt::line(&mut body, b"done\n");
    pkt::flush(&mut body);
    let said = post(gate, upstream, body, MAX_TREES + MAX_LIST).await.map_err(|no| match no.rule.as_str() {
        "git.too-long" if !can_filter => unlisted(
            "the upstream cannot leave files out (uploadpack.allowFilter is off there), and with them it is too long",
        ),
        "git.too-long" => unlisted("the upstream's folders are too many"),
        _ => no,
    })?;
    let read = upstream.share.beside(turn.clone(), move || packed(&said).map(|pack| pack::read(&pack))).await;
    match read.transpose()? {
        Some(Ok(packed)) => Ok(packed),
        Some(Err(wrong)) => {
            Err(unlisted(format_args!("of the upstream's pack, {}", wrong.0)).with_status(StatusCode::BAD_GATEWAY))
        }
        None => Err(unlisted("the upstream's pack could not be read")),
    }
}

/// The pack in an answer to a fetch.
fn packed(said: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut lines = Lines::of(said);
    let (mut inside, mut pack) = (false, Vec::new());
    while let Some(line) = lines.next().map_err(unlisted)? {
        match line {
            Line::Data(b"packfile\n" | b"packfile") if !inside => inside = true,
            Line::Data([1, rest @ ..]) if inside => pack.extend_from_slice(rest),
            Line::Data([2, ..]) if inside => {}
            Line::Data(_) if inside => return Err(unlisted("the upstream broke its answer off")),
            Line::Data(data) if data.starts_with(b"ERR ") => {
                return Err(unlisted(
                    "the upstream has not all of the commits that the pushed ones stand on; fetch, and put your change \
                     on top of what is there",
                ));
            }
            _ => {}
        }
    }
    if pack.is_empty() { Err(unlisted("the upstream gave no objects")) } else { Ok(pack) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pack_is_what_stands_in_the_first_band_after_its_heading() {
        let mut said = Vec::new();
        pkt::line(&mut said, b"shallow-info\n");
        pkt::line(&mut said, b"shallow 1111111111111111111111111111111111111111");
        said.extend_from_slice(b"0001");
        pkt::line(&mut said, b"packfile\n");
        pkt::line(&mut said, b"\x01PA");
        pkt::line(&mut said, b"\x02words");
        pkt::line(&mut said, b"\x01CK");
        pkt::flush(&mut said);
        assert_eq!(packed(&said).unwrap(), b"PACK");
        let mut error = Vec::new();
        pkt::line(&mut error, b"ERR upload-pack: not our ref");
        assert_eq!(packed(&error).unwrap_err().rule, "git.unlisted");
        let mut broken = Vec::new();
        pkt::line(&mut broken, b"packfile\n");
        pkt::line(&mut broken, b"\x03fatal");
        assert!(packed(&broken).is_err());
        assert!(packed(b"").is_err());
    }

    #[test]
    fn the_upstream_is_asked_about_512_commits_the_pushed_one_among_them_and_of_no_more() {
        let oid = |n: usize| {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Oid(bytes)
        };
        let of = |many: usize| (1..=many).map(oid).collect::<Vec<_>>();
        let tip = oid(5);
        // The pushed one is one of others here, and asked about once.
        let at_the_limit = asked_about(tip, &of(512), |_| true);
        assert_eq!((at_the_limit.len(), at_the_limit[0]), (512, tip));
        assert!(at_the_limit.contains(&oid(512)));
        let past_it = asked_about(tip, &of(513), |_| true);
        assert_eq!(past_it, at_the_limit, "the 513th is not asked about, and so counts as new");
        assert_eq!(
            asked_about(tip, &of(3), |oid| *oid != tip),
            of(3),
            "what the pack does not hold is not asked about"
        );
    }

    #[test]
    fn what_is_acknowledged_is_what_stands_in_the_section_of_that_name() {
        let a = "1111111111111111111111111111111111111111";
        let mut said = Vec::new();
        pkt::line(&mut said, b"acknowledgments\n");
        pkt::line(&mut said, format!("ACK {a}\n").as_bytes());
        pkt::line(&mut said, b"ready\n");
        said.extend_from_slice(b"0001");
        pkt::line(&mut said, format!("ACK {}\n", "2".repeat(40)).as_bytes());
        assert_eq!(acknowledged(&said).unwrap(), HashSet::from([Oid::parse(a.as_bytes()).unwrap()]));
        let mut none = Vec::new();
        pkt::line(&mut none, b"acknowledgments\n");
        pkt::line(&mut none, b"NAK\n");
        assert!(acknowledged(&none).unwrap().is_empty());
        let mut other = Vec::new();
        pkt::line(&mut other, format!("ACK {a}\n").as_bytes());
        assert!(acknowledged(&other).unwrap().is_empty());
        let mut error = Vec::new();
        pkt::line(&mut error, b"ERR no");
        assert!(acknowledged(&error).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_has_a_word(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(pack) = packed(&bytes) {
                prop_assert!(pack.len() < bytes.len());
            }
            drop(acknowledged(&bytes));
            drop(features_in(&bytes));
        }
    }
}
