//! Looking for a secret in bytes, in every form in which it could stand there: those that are written down here, by `grep`,
//! and all that the scrubber claims to take out, by the scrubber itself. What one of the two overlooks, the other finds.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use model::Secret;
use rustix::fs::MemfdFlags;
use scrub::Scrubber;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A value that is looked for, and what it is called.
pub struct Canary {
    what: String,
    value: String,
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
            ("lower case", value.to_lowercase()),
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
        let forms = forms.into_iter().map(|(form, text)| (form, text.into_bytes())).collect();
        Self { what: what.to_owned(), value: value.to_owned(), forms }
    }
}

/// Every form of every canary, in a file without a name: the search is not to find what it looks by.
pub struct Forms {
    all: Vec<(Vec<u8>, String)>,
    file: File,
    scrubber: Scrubber,
    /// What each is called that the scrubber knows by its number.
    names: Vec<String>,
}

/// Bytes of which no form is longer that is cut by the end of a piece.
const LONGEST: usize = 16 * 1024;

impl Forms {
    /// Of these.
    pub fn of(canaries: &[Canary]) -> Self {
        let all: Vec<(Vec<u8>, String)> = canaries
            .iter()
            .flat_map(|canary| {
                canary.forms.iter().map(|(form, text)| (text.clone(), format!("{} ({form})", canary.what)))
            })
            .collect();
        let mut file = File::from(rustix::fs::memfd_create("forms", MemfdFlags::CLOEXEC).expect("memory"));
        let lines: Vec<&[u8]> = all.iter().map(|(text, _)| &text[..]).collect();
        file.write_all(&lines.join(&b'\n')).expect("memory takes it");
        let values = canaries.iter().enumerate();
        let scrubber = Scrubber::new(values.map(|(n, one)| (format!("canary-{n}"), Secret::new(one.value.clone()))));
        Self { all, file, scrubber, names: canaries.iter().map(|one| one.what.clone()).collect() }
    }

    /// What the scrubber would take out of these bytes, in whichever form.
    fn scrubbed(&self, bytes: &[u8]) -> BTreeSet<String> {
        let Cow::Owned(left) = self.scrubber.scrub(bytes) else { return BTreeSet::new() };
        let left = String::from_utf8_lossy(&left);
        let found = self.names.iter().enumerate().filter(|(n, _)| left.contains(&format!("[scrubbed:canary-{n}]")));
        found.map(|(_, what)| what.clone()).collect()
    }

    /// Those of what the scrubber found that `grep` did not, by name and form.
    fn alone(scrubbed: BTreeSet<String>, grep: &[&String]) -> impl Iterator<Item = String> {
        let both = |what: &String| grep.iter().any(|found| found.starts_with(&format!("{what} (")));
        let alone: Vec<String> = scrubbed.into_iter().filter(|what| !both(what)).collect();
        alone.into_iter().map(|what| format!("{what} (as the scrubber knows it)"))
    }

    /// `grep` with these to look for; it says each that it finds.
    fn grep(&self, flags: &str) -> Command {
        let mut grep = Command::new("grep");
        let own = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        grep.env("LC_ALL", "C").args([flags, "-f", &own]);
        grep
    }

    /// What was found, by its name.
    fn name(&self, found: &[u8]) -> &str {
        self.all.iter().find(|(form, _)| *form == found).map_or("a part", |(_, what)| what)
    }

    /// What stands in the regular files below these folders, and in which; without the folders of these names.
    pub fn below(&self, folders: &[PathBuf], skip: &[&OsStr]) -> BTreeSet<(String, PathBuf)> {
        if folders.is_empty() {
            return BTreeSet::new();
        }
        // Names end with a zero byte, so that none can be taken for what was found.
        let mut grep = self.grep("-raoFZ");
        let mut find = Command::new("find");
        find.args(folders);
        for name in skip {
            grep.arg("--exclude-dir").arg(name);
            find.args(["-type", "d", "-name"]).arg(name).args(["-prune", "-o"]);
        }
        let found = grep.args(folders).output().expect("grep starts").stdout;
        let lines = found.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let name = |line: &[u8]| {
            let end = line.iter().position(|byte| *byte == 0).expect("a name and what was found");
            (self.name(&line[end + 1..]).to_owned(), PathBuf::from(OsStr::from_bytes(&line[..end])))
        };
        let mut found: BTreeSet<_> = lines.map(name).collect();
        let files = find.args(["-type", "f", "-print0"]).output().expect("find starts").stdout;
        for path in files.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = Path::new(OsStr::from_bytes(path));
            // What is gone meanwhile is in no file any more; sockets and the like are none, and `find` names none of them.
            let file = match File::open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => panic!("{}: {e}", path.display()),
            };
            let mut pieces = Pieces::of(self, std::io::sink());
            std::io::copy(&mut std::io::BufReader::with_capacity(1 << 20, file), &mut pieces).expect("it can be read");
            let here: Vec<&String> = found.iter().filter(|(_, at)| at == path).map(|(what, _)| what).collect();
            let alone: Vec<String> = Self::alone(pieces.found, &here).collect();
            found.extend(alone.into_iter().map(|what| (what, path.to_owned())));
        }
        found
    }

    /// What stands in the bytes that `tell` writes, by name and form.
    pub fn among(&self, tell: impl FnOnce(&mut dyn Write)) -> BTreeSet<String> {
        let mut grep = self.grep("-aoF").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("grep starts");
        let (to, from) = (grep.stdin.take().expect("a pipe"), grep.stdout.take().expect("a pipe"));
        let found = std::thread::spawn(move || std::io::read_to_string(from).expect("what it found can be read"));
        let mut pieces = Pieces::of(self, to);
        tell(&mut pieces);
        let scrubbed = pieces.found;
        drop(pieces.to);
        assert!(grep.wait().expect("its end").code().is_some_and(|code| code < 2), "grep failed");
        let found = found.join().expect("it was read");
        let mut found: BTreeSet<String> = found.lines().map(|line| self.name(line.as_bytes()).to_owned()).collect();
        let alone: Vec<String> = Self::alone(scrubbed, &found.iter().collect::<Vec<_>>()).collect();
        found.extend(alone);
        found
    }
}

/// Bytes that arrive in pieces: each is passed on, and looked through by the scrubber with the end of those before it.
struct Pieces<'a, W> {
    forms: &'a Forms,
    to: W,
    end: Vec<u8>,
    found: BTreeSet<String>,
}

impl<'a, W: Write> Pieces<'a, W> {
    fn of(forms: &'a Forms, to: W) -> Self {
        Self { forms, to, end: Vec::new(), found: BTreeSet::new() }
    }
}

impl<W: Write> Write for Pieces<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.end.extend_from_slice(bytes);
        self.found.extend(self.forms.scrubbed(&self.end));
        self.end.drain(..self.end.len().saturating_sub(LONGEST));
        self.to.write_all(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

/// What is looked through: texts that were shown, and folders.
pub struct Search {
    forms: Forms,
    shown: tempfile::TempDir,
    texts: Vec<String>,
    folders: Vec<PathBuf>,
}

impl Search {
    /// For these.
    pub fn new(canaries: &[Canary]) -> Self {
        let shown = tempfile::tempdir().expect("a folder");
        Self { forms: Forms::of(canaries), shown, texts: Vec::new(), folders: Vec::new() }
    }

    /// Has a text that was shown looked through.
    pub fn through(&mut self, place: &str, bytes: &[u8]) {
        std::fs::write(self.shown.path().join(self.texts.len().to_string()), bytes).expect("it is written");
        self.texts.push(place.to_owned());
    }

    /// Has every regular file below a folder looked through, and their names; but for what is this search's own.
    pub fn below(&mut self, folder: &Path) {
        let mut names = Command::new("find");
        let names = names.arg(folder).output().expect("find starts").stdout;
        self.through(&format!("the names below {}", folder.display()), &names);
        self.folders.push(folder.to_owned());
    }

    /// Every place where a form of a canary stands.
    pub fn leaks(&self) -> Vec<String> {
        let shown = self.shown.path();
        let text = |place: &Path| {
            let number = place.strip_prefix(shown).ok().and_then(|name| name.to_str()?.parse::<usize>().ok());
            number.map_or_else(|| place.display().to_string(), |number| self.texts[number].clone())
        };
        let mut leaks = self.forms.below(&[shown.to_owned()], &[]);
        // Where it lies below one of the folders it is no place of the platform's.
        leaks.extend(self.forms.below(&self.folders, &[shown.file_name().expect("a name")]));
        let named = leaks.iter().map(|(what, place)| format!("{what} stands in {}", text(place)));
        named.collect::<BTreeSet<_>>().into_iter().collect()
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
        let mut search = Search::new(&[Canary::new("it", value)]);
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
    let mut search = Search::new(&[Canary::new("it", value), Canary::new("a name", "0123456789abcdef")]);
    search.below(folder.path());
    let names = format!("a name (as it is) stands in the names below {}", folder.path().display());
    assert_eq!(search.leaks(), [names, format!("it (as it is) stands in {}", folder.path().join("file").display())]);

    // What is not written down here, the scrubber knows: each of these is found by it alone.
    let each = |one: &dyn Fn(u8) -> String, between: &str| value.bytes().map(one).collect::<Vec<_>>().join(between);
    for (form, text) in [
        ("every character escaped", each(&|byte| format!("\\u{byte:04x}"), "")),
        ("in upper case", each(&|byte| format!("\\u{byte:04X}"), "")),
        ("entities by number", each(&|byte| format!("&#{byte};"), "")),
        ("entities of markup", value.replace('"', "&quot;")),
        ("spaced hex", each(&|byte| format!("{byte:02x}"), " ")),
        ("hex with colons", each(&|byte| format!("{byte:02X}"), ":")),
        ("hex of a C string", each(&|byte| format!("\\x{byte:02x}"), "")),
        ("a shell's word", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")),
        (
            "a shell's, every mark",
            value.replace('\\', "\\\\").replace('"', "\\\"").replace('=', "\\=").replace('~', "\\~"),
        ),
        ("Python's", value.replace('\\', "\\\\")),
        (
            "percent, with slashes",
            value.replace('+', "%2B").replace('"', "%22").replace('\\', "%5C").replace('=', "%3D"),
        ),
        ("JSON in JSON", serde_json::json!(serde_json::json!({ "x": value }).to_string()).to_string()),
    ] {
        assert_eq!(found(format!("a line\n\0{text}\0").as_bytes()).len(), 1, "{form}: {text}");
    }

    let forms = Forms::of(&[Canary::new("it", value)]);
    let cut = forms.among(|to| {
        let spaced = format!("{}x", each(&|byte| format!("{byte:02x}"), " "));
        spaced.as_bytes().chunks(7).for_each(|piece| to.write_all(piece).expect("grep reads"));
    });
    assert_eq!(cut, BTreeSet::from(["it (as the scrubber knows it)".to_owned()]));
    let among = forms.among(|to| to.write_all(format!("\0\u{1}x{value}\0").as_bytes()).expect("grep reads"));
    assert_eq!(among, BTreeSet::from(["it (as it is)".to_owned()]));
    assert!(forms.among(|to| to.write_all(b"nothing of it").expect("grep reads")).is_empty());
}
