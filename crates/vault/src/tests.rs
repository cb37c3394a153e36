//! A sealed value opens at its own place with its own key, and nowhere else.

use crate::{Dek, Kek, MAX_PLAINTEXT, OpenError, Place, SealError};
use model::{Secret, WorkspaceId};
use proptest::prelude::*;

fn workspace(id: &str) -> WorkspaceId {
    WorkspaceId::parse(id).unwrap()
}

fn seal(dek: &Dek, workspace: &WorkspaceId, name: &str, version: u64, plain: &[u8]) -> Result<Vec<u8>, SealError> {
    crate::seal(dek, &Place { workspace, person: "", name, version }, plain)
}

fn open(
    dek: &Dek,
    workspace: &WorkspaceId,
    name: &str,
    version: u64,
    sealed: &[u8],
) -> Result<Secret<Vec<u8>>, OpenError> {
    crate::open(dek, &Place { workspace, person: "", name, version }, sealed)
}

fn dek() -> Dek {
    Dek::new([7; 32])
}

fn sealed() -> Vec<u8> {
    seal(&dek(), &workspace("main"), "model/anthropic", 2, b"sk-very-real").unwrap()
}

fn opened_at(at: &str, name: &str, version: u64) -> Result<Vec<u8>, OpenError> {
    open(&dek(), &workspace(at), name, version, &sealed()).map(|value| value.expose().clone())
}

#[test]
fn a_value_opens_at_its_own_place() {
    assert_eq!(opened_at("main", "model/anthropic", 2), Ok(b"sk-very-real".to_vec()));
}

#[test]
fn a_value_does_not_open_in_another_workspace() {
    assert_eq!(opened_at("main2", "model/anthropic", 2), Err(OpenError::Refused));
}

#[test]
fn a_value_does_not_open_under_another_name() {
    assert_eq!(opened_at("main", "model/openai", 2), Err(OpenError::Refused));
}

#[test]
fn a_value_does_not_open_as_another_version() {
    assert_eq!(opened_at("main", "model/anthropic", 1), Err(OpenError::Refused));
}

#[test]
fn a_value_does_not_open_where_workspace_and_name_only_add_up_to_the_same() {
    assert_eq!(opened_at("mainm", "odel/anthropic", 2), Err(OpenError::Refused));
}

#[test]
fn a_persons_value_opens_for_that_person_and_for_nobody_else() {
    let main = workspace("main");
    let at = |person| Place { workspace: &main, person, name: "capability/forge", version: 1 };
    let sealed = crate::seal(&dek(), &at("ada"), b"of-ada").unwrap();
    assert_eq!(crate::open(&dek(), &at("ada"), &sealed).unwrap().expose(), b"of-ada");
    for other in ["", "bob", "adacapability/forge"] {
        assert_eq!(crate::open(&dek(), &at(other), &sealed).unwrap_err(), OpenError::Refused, "{other:?}");
    }
}

#[test]
fn a_value_that_was_sealed_before_there_was_padding_opens_at_its_place_and_for_no_person() {
    // Made with another library, in the form of before: `sk-very-real`, version 2 of `model/anthropic` of `main`, under 32 sevens.
    const OLD: &str = "01000102030405060708090a0b6beac406787ba06405d784f0c20e4a9712a7143278c980b3db6fa1db";
    let old: Vec<u8> = (0..OLD.len() / 2).map(|n| u8::from_str_radix(&OLD[2 * n..2 * n + 2], 16).unwrap()).collect();
    let main = workspace("main");
    let at = |person, version| Place { workspace: &main, person, name: "model/anthropic", version };
    assert_eq!(crate::open(&dek(), &at("", 2), &old).unwrap().expose(), b"sk-very-real");
    assert_eq!(crate::open(&dek(), &at("", 1), &old).unwrap_err(), OpenError::Refused);
    assert_eq!(crate::open(&dek(), &at("ada", 2), &old).unwrap_err(), OpenError::Form);
}

#[test]
fn a_sealed_value_does_not_show_how_long_the_value_is() {
    let length = |plain: usize| seal(&dek(), &workspace("main"), "n", 1, &vec![b'k'; plain]).unwrap().len();
    for (up_to, from) in [(1024, 0), (4096, 1025), (16_384, 4097), (65_536, 16_385)] {
        for plain in [from, from + 1, up_to / 2 + 1, up_to - 1, up_to] {
            let plain = plain.max(from);
            assert_eq!(length(plain), length(up_to), "{plain} and {up_to}");
        }
    }
    assert_eq!(length(8), 1024 + 4 + 29);
    assert_ne!(length(1024), length(1025));
}

#[test]
fn a_key_has_one_name_that_is_not_the_key_and_reads_back_from_its_digits_alone() {
    let digits = "0123456789abcdefFEDCBA98765432100123456789abcdefFEDCBA9876543210";
    let key = Kek::from_hex(&format!("{digits}\n")).unwrap();
    let id = key.id().unwrap();
    assert_eq!(id.len(), 16);
    assert_eq!(id, Kek::from_hex(digits).unwrap().id().unwrap());
    assert_ne!(id, Kek::new([1; 32]).id().unwrap());
    assert!(!digits.to_lowercase().contains(&id), "{id}");
    for no in ["", "0", &digits[1..], &format!("{digits}0"), &format!("g{}", &digits[1..]), &digits.replace('0', " ")] {
        assert!(Kek::from_hex(no).is_none(), "{no}");
    }
}

#[test]
fn a_value_does_not_open_with_another_data_key() {
    let opened = open(&Dek::new([8; 32]), &workspace("main"), "model/anthropic", 2, &sealed());
    assert_eq!(opened.unwrap_err(), OpenError::Refused);
}

#[test]
fn a_changed_bit_anywhere_does_not_open() {
    for bit in 0..sealed().len() * 8 {
        let mut changed = sealed();
        changed[bit / 8] ^= 1 << (bit % 8);
        let opened = open(&dek(), &workspace("main"), "model/anthropic", 2, &changed);
        // One bit turns the byte of a form into that of no other.
        assert_eq!(opened.unwrap_err(), if bit < 8 { OpenError::Form } else { OpenError::Refused }, "bit {bit}");
    }
}

#[test]
fn a_value_does_not_open_under_the_other_forms_byte() {
    let mut changed = sealed();
    changed[0] = 1;
    let opened = open(&dek(), &workspace("main"), "model/anthropic", 2, &changed);
    assert_eq!(opened.unwrap_err(), OpenError::Refused);
}

#[test]
fn a_cut_value_does_not_open() {
    let whole = sealed();
    for len in 0..whole.len() {
        assert!(open(&dek(), &workspace("main"), "model/anthropic", 2, &whole[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn two_sealings_of_one_value_differ() {
    assert_ne!(sealed(), sealed());
}

#[test]
fn a_plaintext_of_64_kib_is_sealed_and_one_byte_more_is_not() {
    let at = |len: usize| seal(&dek(), &workspace("main"), "n", 1, &vec![1; len]);
    assert_eq!(at(MAX_PLAINTEXT).unwrap().len(), MAX_PLAINTEXT + 4 + 29);
    assert_eq!(at(MAX_PLAINTEXT + 1), Err(SealError::TooLong(MAX_PLAINTEXT + 1)));
}

#[test]
fn a_wrapped_data_key_opens_what_it_sealed() {
    let kek = Kek::new([1; 32]);
    let wrapped = kek.wrap(&dek(), &workspace("main")).unwrap();
    assert_eq!(wrapped.len(), 61);
    let dek = kek.unwrap(&wrapped, &workspace("main")).unwrap();
    let opened = open(&dek, &workspace("main"), "model/anthropic", 2, &sealed()).unwrap();
    assert_eq!(opened.expose(), b"sk-very-real");
}

#[test]
fn a_wrapped_data_key_does_not_open_for_another_workspace_or_with_another_key() {
    let wrapped = Kek::new([1; 32]).wrap(&dek(), &workspace("main")).unwrap();
    assert_eq!(Kek::new([1; 32]).unwrap(&wrapped, &workspace("other")).unwrap_err(), OpenError::Refused);
    assert_eq!(Kek::new([2; 32]).unwrap(&wrapped, &workspace("main")).unwrap_err(), OpenError::Refused);
}

#[test]
fn a_sealed_value_does_not_pass_for_a_wrapped_key() {
    // The same 32 bytes as key for both, as if one had been mistaken for the other.
    let value = seal(&dek(), &workspace("main"), "n", 1, &[9; 32]).unwrap();
    assert_eq!(Kek::new([7; 32]).unwrap(&value, &workspace("main")).unwrap_err(), OpenError::Form);
    let mut value = value;
    value[0] = 1;
    assert_eq!(Kek::new([7; 32]).unwrap(&value, &workspace("main")).unwrap_err(), OpenError::Refused);
}

#[test]
fn two_generated_data_keys_differ() {
    let sealed = seal(&Dek::generate().unwrap(), &workspace("main"), "n", 1, b"x").unwrap();
    let opened = open(&Dek::generate().unwrap(), &workspace("main"), "n", 1, &sealed);
    assert_eq!(opened.unwrap_err(), OpenError::Refused);
}

#[test]
fn keys_do_not_print_themselves() {
    assert_eq!(format!("{:?} {:?}", dek(), Kek::new([1; 32])), "Dek([secret]) Kek([secret])");
}

proptest! {
    #[test]
    fn any_value_under_any_name_comes_back(plain: Vec<u8>, name: String, version: u64) {
        let sealed = seal(&dek(), &workspace("main"), &name, version, &plain).unwrap();
        let opened = open(&dek(), &workspace("main"), &name, version, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), &plain);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(open(&dek(), &workspace("main"), "n", 1, &bytes).is_err());
        prop_assert!(Kek::new([1; 32]).unwrap(&bytes, &workspace("main")).is_err());
    }
}

#[test]
fn the_key_of_fingerprints_is_the_workspaces_always_the_same_and_not_the_data_key() {
    let of = |dek: &Dek, at: &str| *dek.fingerprints(&workspace(at)).unwrap().expose();
    assert_eq!(of(&dek(), "main"), of(&dek(), "main"));
    assert_ne!(of(&dek(), "main"), [7; 32]);
    assert_ne!(of(&dek(), "main"), of(&dek(), "main2"));
    assert_ne!(of(&dek(), "main"), of(&Dek::new([8; 32]), "main"));
}
