//! Looking for a secret in bytes, in every form in which it could stand there.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A value that is looked for, and what it is called.
pub struct Canary {
    what: String,
    forms: BTreeMap<&'static str, Vec<u8>>,
}

impl Canary {
    /// Of a value of 12 bytes or more.
    pub fn new(what: &str, value: &str) -> Self {
        assert!(value.len() >= 12, "{what} is too short to be told from chance");
        let hex = |upper: bool| {
            value.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect::<String>()
        };
        let percent = |every: bool| {
            let one = |byte: u8| {
                let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
                if plain && !every { char::from(byte).to_string() } else { format!("%{byte:02X}") }
            };
            value.bytes().map(one).collect::<String>()
        };
        let json = serde_json::to_string(value).expect("a text is JSON");
        let mut forms = BTreeMap::from([
            ("as it is", value.to_owned()),
            ("reversed", value.chars().rev().collect()),
            ("hex", hex(false)),
            ("HEX", hex(true)),
            ("percent", percent(false)),
            ("percent, every byte", percent(true)),
            ("percent, lower case", percent(true).to_lowercase()),
            ("JSON", json.trim_matches('"').to_owned()),
        ]);
        // Where a text begins within a group of three decides how it is written; what its neighbours decide is left out.
        for (form, url, before) in [
            ("base64", false, 0),
            ("base64, one before", false, 1),
            ("base64, two before", false, 2),
            ("base64 of URLs", true, 0),
            ("base64 of URLs, one before", true, 1),
            ("base64 of URLs, two before", true, 2),
        ] {
            let padded = [&vec![0; before][..], value.as_bytes()].concat();
            let whole = padded.len() / 3 * 3;
            let text =
                if url { URL_SAFE_NO_PAD.encode(&padded[..whole]) } else { STANDARD_NO_PAD.encode(&padded[..whole]) };
            let from = if before == 0 { 0 } else { 4 };
            forms.insert(form, text[from..].to_owned());
        }
        forms.retain(|form, text| *form == "as it is" || *text != value);
        Self { what: what.to_owned(), forms: forms.into_iter().map(|(form, text)| (form, text.into_bytes())).collect() }
    }
}

/// What is looked through: texts that were shown, and folders.
pub struct Search {
    canaries: Vec<Canary>,
    shown: tempfile::TempDir,
    texts: Vec<String>,
    folders: Vec<PathBuf>,
}

impl Search {
    /// For these.
    pub fn new(canaries: Vec<Canary>) -> Self {
        Self { canaries, shown: tempfile::tempdir().expect("a folder"), texts: Vec::new(), folders: Vec::new() }
    }

    /// Has a text that was shown looked through.
    pub fn through(&mut self, place: &str, bytes: &[u8]) {
        std::fs::write(self.shown.path().join(self.texts.len().to_string()), bytes).expect("it is written");
        self.texts.push(place.to_owned());
    }

    /// Has every regular file below a folder looked through, and their names.
    pub fn below(&mut self, folder: &Path) {
        let mut names = Command::new("find");
        let names = names.arg(folder).output().expect("find starts").stdout;
        self.through(&format!("the names below {}", folder.display()), &names);
        self.folders.push(folder.to_owned());
    }

    /// Every place where a form of a canary stands.
    pub fn leaks(&self) -> Vec<String> {
        let forms: Vec<(&[u8], String)> = self
            .canaries
            .iter()
            .flat_map(|canary| canary.forms.iter().map(|(form, text)| (&text[..], format!("{} ({form})", canary.what))))
            .collect();
        let patterns = tempfile::NamedTempFile::new().expect("a file");
        let lines: Vec<&[u8]> = forms.iter().map(|(text, _)| *text).collect();
        std::fs::write(patterns.path(), lines.join(&b'\n')).expect("it is written");
        let mut grep = Command::new("grep");
        // Names end with a zero byte, so that none can be taken for what was found.
        grep.env("LC_ALL", "C").args(["-raoFZ", "-f"]).arg(patterns.path()).arg(self.shown.path()).args(&self.folders);
        let out = grep.output().expect("grep starts");
        let mut leaks = BTreeSet::new();
        for line in out.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let end = line.iter().position(|byte| *byte == 0).expect("a name and what was found");
            let (name, found) = (Path::new(OsStr::from_bytes(&line[..end])), &line[end + 1..]);
            let what = forms.iter().find(|(form, _)| *form == found).map_or("a part", |(_, what)| what);
            let number =
                name.strip_prefix(self.shown.path()).ok().and_then(|name| name.to_str()?.parse::<usize>().ok());
            let place = number.map_or_else(|| name.display().to_string(), |number| self.texts[number].clone());
            leaks.insert(format!("{what} stands in {place}"));
        }
        leaks.into_iter().collect()
    }

    /// # Panics
    /// When anything was found.
    pub fn verdict(&self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// The search sees what it is to see.
#[test]
fn a_value_is_found_in_every_form_in_what_is_shown_in_files_and_in_names() {
    let value = "a/b+c\"d\\e=f~0123456789";
    let found = |bytes: &[u8]| {
        let mut search = Search::new(vec![Canary::new("it", value)]);
        search.through("a text", bytes);
        search.leaks()
    };
    assert_eq!(found(format!("x{value}y").as_bytes()), ["it (as it is) stands in a text"]);
    assert_eq!(found(value.chars().rev().collect::<String>().as_bytes()), ["it (reversed) stands in a text"]);
    for before in 0..3 {
        let bytes = [&b"zzz"[..before], value.as_bytes(), b"tail"].concat();
        assert_eq!(found(STANDARD_NO_PAD.encode(&bytes).as_bytes()).len(), 1, "{before} before");
        assert_eq!(found(URL_SAFE_NO_PAD.encode(&bytes).as_bytes()).len(), 1, "{before} before, of URLs");
    }
    assert_eq!(found(serde_json::json!({ "x": value }).to_string().as_bytes()), ["it (JSON) stands in a text"]);
    assert!(found(b"a/b+c and nothing else").is_empty());

    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), format!("\0\n{value}\0")).expect("it is written");
    std::fs::write(folder.path().join("0123456789abcdef-name"), "").expect("it is written");
    let mut search = Search::new(vec![Canary::new("it", value), Canary::new("a name", "0123456789abcdef")]);
    search.below(folder.path());
    let names = format!("a name (as it is) stands in the names below {}", folder.path().display());
    assert_eq!(search.leaks(), [names, format!("it (as it is) stands in {}", folder.path().join("file").display())]);
}
