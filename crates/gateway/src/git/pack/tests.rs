use super::*;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;
use std::io::Write as _;

fn packed(content: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn head(kind: u8, mut size: usize) -> Vec<u8> {
    let mut byte = kind << 4 | u8::try_from(size & 15).unwrap();
    let mut out = Vec::new();
    size >>= 4;
    while size > 0 {
        out.push(byte | 128);
        byte = u8::try_from(size & 127).unwrap();
        size >>= 7;
    }
    out.push(byte);
    out
}

/// A pack of entries: kind, what stands before the content, content.
pub(crate) fn pack(entries: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
    let mut out = b"PACK\0\0\0\x02".to_vec();
    out.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
    for (kind, before, content) in entries {
        out.extend(head(*kind, content.len()));
        out.extend_from_slice(before);
        out.extend(packed(content));
    }
    let sum = sha1(&[&out]);
    out.extend(sum.0);
    out
}

/// A tree of entries: mode, name, what.
pub(crate) fn tree(entries: &[(&str, &str, Oid)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (mode, name, oid) in entries {
        out.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        out.extend(oid.0);
    }
    out
}

pub(crate) fn tree_name(content: &[u8]) -> Oid {
    name_of(Kind::Tree, content)
}

const EMPTY: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

#[test]
fn commits_and_trees_are_read_and_named_by_what_they_hold() {
    let commit = format!("tree {EMPTY}\nparent {}\nauthor x\n\nparent of nothing\n", "1".repeat(40));
    let bytes = pack(&[(1, b"", commit.as_bytes()), (2, b"", b""), (3, b"", b"a file")]);
    let packed = read(&bytes).unwrap();
    assert_eq!(packed.objects, 3);
    let commit = packed.commits.values().next().unwrap();
    assert_eq!((commit.tree.to_string().as_str(), commit.parents.len()), (EMPTY, 1));
    assert!(packed.trees.contains_key(&Oid::parse(EMPTY.as_bytes()).unwrap()));
}

#[test]
fn a_commit_is_the_persons_by_both_its_lines_and_the_agents_by_a_line_at_its_end() {
    let trailer = Some("Agent: volary/worker".to_owned());
    let agents = Author { name: "Tess".into(), email: "tess@localhost".into(), trailer };
    let persons = Author { trailer: None, ..agents.clone() };
    let is = |head: &str, message: &str, author: &Author| {
        let content = format!("tree {EMPTY}\n{head}\n\n{message}");
        commit(content.as_bytes()).unwrap().is_by(author)
    };
    let head = "author Tess <tess@localhost> 1 +0000\ncommitter Tess <tess@localhost> 2 +0000";
    assert!(is(head, "Mend max\n\nAgent: volary/worker\n", &agents));
    assert!(is(head, "Mend max\n\nSigned-off-by: x\nAgent: volary/worker\n\n \n", &agents));
    assert!(is(head, "Mend max\n", &persons));
    for message in ["Mend max\n", "Agent: volary/worker\n\nmore\n", "a\n\nAgent: volary/workers\n", ""] {
        assert!(!is(head, message, &agents), "{message:?}");
    }
    for head in [
        "author Tess <tess@localhost> 1 +0000",
        "author Lin <tess@localhost> 1 +0000\ncommitter Tess <tess@localhost> 2 +0000",
        "author Tess <tess@localhost> 1 +0000\ncommitter Tess <lin@example.org> 2 +0000",
        "author Tess <tess@localhost> 1 +0000\nauthor Lin <l@x> 1 +0000\ncommitter Tess <tess@localhost> 2 +0000",
        "author Tess <tess@localhost> <l@x> 1 +0000\ncommitter Tess <tess@localhost> 2 +0000",
        "author  Tess <tess@localhost> 1 +0000\ncommitter Tess <tess@localhost> 2 +0000",
    ] {
        assert!(!is(head, "m", &persons), "{head:?}");
    }
}

#[test]
fn differences_are_resolved_to_places_and_to_names_in_any_order() {
    let base = tree(&[("100644", "a", Oid([1; 20]))]);
    // Copies the base and adds an entry to it.
    let more = tree(&[("100644", "b", Oid([2; 20]))]);
    let size = base.len() + more.len();
    let mut difference = vec![u8::try_from(base.len()).unwrap(), u8::try_from(size).unwrap()];
    difference.extend([128 | 16, u8::try_from(base.len()).unwrap(), u8::try_from(more.len()).unwrap()]);
    difference.extend_from_slice(&more);
    let whole = [base.clone(), more].concat();
    let first = u8::try_from(head(2, base.len()).len() + packed(&base).len()).unwrap();
    let after = pack(&[(2, b"", &base), (6, &[first], &difference)]);
    assert!(first < 128 && read(&after).unwrap().trees.contains_key(&tree_name(&whole)));
    let before = pack(&[(7, &tree_name(&base).0, &difference), (2, b"", &base)]);
    assert!(read(&before).unwrap().trees.contains_key(&tree_name(&whole)));
    // To what is not there: read, and not found by who looks for it.
    let thin = read(&pack(&[(7, &[9; 20], &difference)])).unwrap();
    assert!(thin.trees.is_empty() && thin.objects == 1);
}

#[test]
fn a_pack_that_says_something_false_of_itself_is_none() {
    let good = pack(&[(3, b"", b"x")]);
    assert!(read(&good).is_ok());
    let again = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good[..good.len() - 20].to_vec();
        change(&mut bytes);
        let sum = sha1(&[&bytes]);
        bytes.extend(sum.0);
        read(&bytes).unwrap_err().0
    };
    assert!(again(&|b| b[3] = b'X').contains("version 2"));
    assert!(again(&|b| b[7] = 3).contains("version 2"));
    assert!(again(&|b| b[11] = 2).contains("cut"));
    assert!(again(&|b| b[11] = 0).contains("follows"));
    assert!(again(&|b| b[8] = 255).contains("500,000"));
    assert!(again(&|b| b.push(0)).contains("follows"));
    assert!(again(&|b| b[12] = 3 << 4 | 2).contains("shorter"));
    assert!(again(&|b| b[12] = 3 << 4).contains("longer"));
    assert!(again(&|b| b[12] = 5 << 4 | 1).contains("kind"));
    assert!(again(&|b| b[13] ^= 0xff).contains("unpacked"));
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(read(&other).unwrap_err().0.contains("checksum"));
    assert!(read(b"PACK").unwrap_err().0.contains("cut"));
}

#[test]
fn a_little_that_unpacks_to_very_much_is_refused_by_what_it_says_and_by_what_it_does() {
    let zeros = vec![0; 1 << 20];
    let mut bytes = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    bytes.extend(head(3, 5));
    bytes.extend(packed(&zeros));
    let sum = sha1(&[&bytes]);
    bytes.extend(sum.0);
    assert!(read(&bytes).unwrap_err().0.contains("longer than it says"));
    let mut bytes = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    bytes.extend(head(3, 3 << 30));
    bytes.extend(packed(b"x"));
    let sum = sha1(&[&bytes]);
    bytes.extend(sum.0);
    assert!(read(&bytes).unwrap_err().0.contains("2 GiB"));
    // A difference that makes much of little.
    let base = vec![b'a'; 1 << 16];
    let mut difference = vec![0x80, 0x80, 4];
    difference.extend([0x80, 0x80, 0x80, 0x80, 0x7f]);
    difference.extend([0x80; 64]);
    let bytes = pack(&[(7, &name_of(Kind::Tree, &base).0, &difference), (2, b"", &base)]);
    assert!(read(&bytes).unwrap_err().0.contains("too much"));
}

proptest! {
    #[test]
    fn any_bytes_behind_a_right_checksum_have_a_word(rest in prop::collection::vec(any::<u8>(), 0..600), count in 0u32..9) {
        let mut bytes = b"PACK\0\0\0\x02".to_vec();
        bytes.extend(count.to_be_bytes());
        bytes.extend(rest);
        let sum = sha1(&[&bytes]);
        bytes.extend(sum.0);
        drop(read(&bytes));
    }

    #[test]
    fn a_real_pack_with_one_byte_changed_has_a_word(at in 12usize..200, to in any::<u8>()) {
        let base = tree(&[("100644", "a", Oid([1; 20])), ("40000", "b", Oid([2; 20]))]);
        let commit = format!("tree {EMPTY}\n\nx");
        let mut bytes = pack(&[(2, b"", &base), (1, b"", commit.as_bytes()), (7, &tree_name(&base).0, &[60, 2, 2, 1, 1])]);
        bytes.truncate(bytes.len() - 20);
        let at = at % bytes.len();
        bytes[at] = to;
        let sum = sha1(&[&bytes]);
        bytes.extend(sum.0);
        drop(read(&bytes));
    }
}
