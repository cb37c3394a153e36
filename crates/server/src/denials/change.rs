//! One change of a profile's `[egress]` table: read out of the very text that was offered, filled in by a person,
//! and put into a table.
//!
//! What a person is shown is what is read here, so nothing can be accepted that was not offered. Nothing here reads
//! or writes a file.
//!
//! Read [`Change::of`], [`Change::filled`], then [`Change::put_into`].

use api::denials::{Blank, Terms};
use model::Egress;
use model::egress::{InternalRow, ReadRow, Reads, WriteRow};
use model::event::Verdict;
use policy::egress::law::is_capability;
use policy::egress::{Ask, Form, Law, Signs, Verdict as Word, judge, target};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Longest reason of an exception, in characters.
const MAX_WHY: usize = 200;

/// See the module. One kind of row each; a change of several kinds is never offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row to read, in a table that lists.
    Read(ReadRow),
    /// A row to write; its capability is blank until a person names one.
    Write(WriteRow),
    /// An exception; its addresses are blank until a person names them, but for a host that is an address.
    Internal(InternalRow),
}

/// What a person filled in that cannot be taken: in which field, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// `capability`, `addresses` or `why`.
    pub field: &'static str,
    /// One sentence.
    pub why: String,
}

fn unfit<T>(field: &'static str, why: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit { field, why: why.into() })
}

/// The rows as text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    egress: Rows,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rows {
    #[serde(skip_serializing_if = "Option::is_none")]
    reads: Option<Reads>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    read: Vec<ReadRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    write: Vec<WriteRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    internal: Vec<InternalRow>,
}

impl Change {
    /// What a proposal's text says. None for a text that says anything but one row.
    #[must_use]
    pub fn of(toml: &str) -> Option<Self> {
        let Rows { mut read, mut write, mut internal, .. } = toml::from_str::<Text>(toml).ok()?.egress;
        match (read.len(), write.len(), internal.len()) {
            (1, 0, 0) => read.pop().map(Self::Read),
            (0, 1, 0) => write.pop().map(Self::Write),
            (0, 0, 1) => internal.pop().map(Self::Internal),
            _ => None,
        }
    }

    /// What a person has to fill in.
    #[must_use]
    pub fn blank(&self) -> Option<Blank> {
        match self {
            Self::Write(row) if row.capability.is_empty() => Some(Blank::Capability),
            Self::Internal(row) if row.addresses.is_empty() => Some(Blank::Addresses),
            _ => None,
        }
    }

    /// The change with its blanks filled in.
    ///
    /// # Errors
    /// [`Unfit`]: a blank that is left, a value that has no place, addresses of the platform's own machine. What else
    /// is wrong with a value the table says, when it is put in.
    pub fn filled(mut self, terms: &Terms) -> Result<Self, Unfit> {
        let capability = terms.capability.trim();
        let mut addresses = terms.addresses.split([' ', ',', '\t', '\n', '\r']).filter(|text| !text.is_empty());
        match (&mut self, capability) {
            (Self::Write(_), "") => return unfit("capability", "This takes the name of a capability."),
            (Self::Write(row), name) if is_capability(name) => row.capability = name.to_owned(),
            (_, "") => {}
            (Self::Write(_), _) => {
                return unfit(
                    "capability",
                    "A capability's name takes a-z, 0-9 and '-'; a connection's is `connection/NAME`.",
                );
            }
            _ => return unfit("capability", "This is no write and takes no capability."),
        }
        match &mut self {
            Self::Internal(row) if row.addresses.is_empty() => row.addresses = addresses.map(str::to_owned).collect(),
            _ if addresses.next().is_some() => return unfit("addresses", "This takes no addresses."),
            _ => {}
        }
        match &mut self {
            Self::Internal(row) => {
                if row.addresses.is_empty() {
                    return unfit("addresses", "This takes the ranges that the service's addresses lie in.");
                }
                if row.addresses.iter().any(|text| is_own(text)) {
                    let why = "What listens on this machine itself is not opened from here; write it into the profile \
                               yourself, if you mean it.";
                    return unfit("addresses", why);
                }
                let why = terms.why.trim();
                if why.chars().count() > MAX_WHY || why.chars().any(char::is_control) {
                    return unfit("why", format!("The reason takes one line of at most {MAX_WHY} characters."));
                }
                why.clone_into(&mut row.why);
            }
            _ if terms.why.trim().is_empty() => {}
            _ => return unfit("why", "This takes no reason."),
        }
        Ok(self)
    }

    /// The rows as they stand in a profile.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut egress = Rows::default();
        match self.clone() {
            Self::Read(row) => egress.read.push(row),
            Self::Write(row) => egress.write.push(row),
            Self::Internal(row) => egress.internal.push(row),
        }
        toml::to_string(&Text { egress }).unwrap_or_default()
    }

    /// Adds the row; `reads` is widened as far as the row needs it and no further.
    pub fn put_into(&self, egress: &mut Egress) {
        match self {
            Self::Read(row) => {
                if egress.reads < Reads::Listed {
                    egress.reads = Reads::Listed;
                }
                egress.read.push(row.clone());
            }
            Self::Write(row) => egress.write.push(row.clone()),
            Self::Internal(row) => egress.internal.push(row.clone()),
        }
    }

    /// Whether a table allows already what this change is there to allow, of the request that was refused.
    #[must_use]
    pub fn is_in(&self, egress: &Egress, refused: &Verdict) -> bool {
        match self {
            Self::Internal(row) => egress.internal.iter().any(|it| it.host == row.host && it.port == row.port),
            Self::Write(row) => egress.write.iter().any(|it| is_same(it, row)),
            Self::Read(_) => Law::of(egress).is_ok_and(|law| may_read(&law, refused)),
        }
    }

    /// The capability under which a table allows it already, where that is another one.
    #[must_use]
    pub fn other_capability<'t>(&self, egress: &'t Egress) -> Option<&'t str> {
        let Self::Write(row) = self else { return None };
        let it = egress.write.iter().find(|it| is_same(it, row))?;
        (!row.capability.is_empty() && it.capability != row.capability).then_some(it.capability.as_str())
    }
}

/// Whether two rows are of the same requests.
fn is_same(it: &WriteRow, row: &WriteRow) -> bool {
    let of = |row: &WriteRow| (row.host.clone(), row.method.clone(), row.path.clone(), row.port.unwrap_or(443));
    of(it) == of(row)
}

/// Whether a table lets this be read without a credential.
fn may_read(law: &Law, refused: &Verdict) -> bool {
    let signs = Signs::default();
    let word = if let Ok(url) = target::absolute(&refused.target) {
        let form = if url.scheme == target::Scheme::Http { Form::Plain } else { Form::Intercepted };
        judge(law, &Ask { form, method: "GET", host: &url.host, port: url.port, path: url.path, signs: &signs })
    } else if let Ok((host, port)) = target::authority(&refused.target) {
        judge(law, &Ask { form: Form::Connect, method: "CONNECT", host: &host, port, path: "", signs: &signs })
    } else {
        return false;
    };
    matches!(word, Word::Allow(_))
}

/// Whether an address or a range begins on the platform's own machine.
fn is_own(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    match first.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::egress::Proposal;
    use proptest::prelude::*;

    fn refused(rule: &str, method: &str, target: &str) -> Verdict {
        Verdict {
            allowed: false,
            rule: rule.into(),
            method: method.into(),
            target: target.into(),
            why: String::new(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        }
    }

    fn offered(egress: &Egress, refused: &Verdict) -> Option<Change> {
        let law = Law::of(egress).unwrap();
        let Proposal { toml, .. } = Proposal::of(&law, &refused.rule, &refused.method, &refused.target)?;
        Some(Change::of(&toml).unwrap_or_else(|| panic!("no change in {toml}")))
    }

    fn table(reads: Reads) -> Egress {
        Egress { reads, ..Egress::default() }
    }

    #[test]
    fn what_is_offered_is_read_as_one_row_which_then_allows_it() {
        for (egress, refused) in [
            (table(Reads::None), refused("read.none", "GET", "https://docs.example.org/guide")),
            (table(Reads::Listed), refused("read.unlisted", "GET", "http://docs.example.org/guide")),
            (table(Reads::Listed), refused("read.unlisted", "CONNECT", "docs.example.org:443")),
            (table(Reads::Any), refused("port.closed", "GET", "https://docs.example.org:8443/guide")),
            (table(Reads::Any), refused("write.no-row", "POST", "https://api.example.org/v1/issues")),
            (table(Reads::Any), refused("host.internal", "GET", "http://wiki.corp/")),
        ] {
            let change = offered(&egress, &refused).unwrap();
            assert!(!change.is_in(&egress, &refused), "{refused:?}");
            let terms = match change.blank() {
                None => Terms::default(),
                Some(Blank::Capability) => Terms { capability: "tracker".into(), ..Terms::default() },
                Some(Blank::Addresses) => Terms { addresses: "10.1.0.0/16".into(), ..Terms::default() },
            };
            let change = change.filled(&terms).unwrap();
            let mut wider = egress.clone();
            change.put_into(&mut wider);
            Law::of(&wider).unwrap();
            assert!(change.is_in(&wider, &refused), "{refused:?}");
            // What is shown once it is filled in says the same.
            assert_eq!(Change::of(&change.toml()).as_ref(), Some(&change));
        }
    }

    #[test]
    fn of_a_registry_the_path_that_was_asked_for_is_offered_and_the_groups_that_may_be_read_stay() {
        let host = policy::egress::registries::Registries::built_in().group("node").next().unwrap().host.clone();
        let mut egress = table(Reads::Packages);
        egress.packages = vec!["rust".into()];
        let refused = refused("read.packages", "GET", &format!("https://{host}/x"));
        let change = offered(&egress, &refused).unwrap();
        assert_eq!(change, Change::Read(ReadRow { host: host.to_string(), path: "/x".into(), port: None }));
        change.put_into(&mut egress);
        assert_eq!((egress.reads, &egress.packages[..]), (Reads::Listed, &["rust".to_owned()][..]));
        assert!(change.is_in(&egress, &refused));
    }

    #[test]
    fn nothing_is_offered_of_metadata_services_and_of_the_platforms_own_machine() {
        for target in [
            "http://169.254.169.254/latest/meta-data",
            "http://metadata.goog/",
            "http://[fd00:ec2::254]/",
            "http://127.0.0.1:7440/",
            "http://[::1]/",
            "http://localhost:8080/",
            "http://x.localhost/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
        ] {
            for rule in ["host.private", "host.internal", "host.metadata", "address.private", "address.metadata"] {
                let law = Law::of(&Egress::default()).unwrap();
                assert_eq!(Proposal::of(&law, rule, "GET", target), None, "{rule} {target}");
            }
        }
    }

    #[test]
    fn a_person_is_not_led_to_open_the_platforms_own_machine_under_another_name() {
        let egress = Egress::default();
        let change = offered(&egress, &refused("address.private", "GET", "http://wiki.corp/")).unwrap();
        for own in ["127.0.0.1", "127.8.9.1/32", "::1", "::ffff:127.0.0.1", "10.1.0.0/16 127.0.0.1", "0.0.0.0"] {
            let terms = Terms { addresses: own.into(), ..Terms::default() };
            assert_eq!(change.clone().filled(&terms).unwrap_err().field, "addresses", "{own}");
        }
    }

    #[test]
    fn a_blank_that_is_left_and_a_value_that_has_no_place_are_refused_at_their_field() {
        let egress = Egress::default();
        let write = offered(&egress, &refused("write.no-row", "POST", "https://a.example/x")).unwrap();
        let inside = offered(&egress, &refused("host.internal", "GET", "http://wiki.corp/")).unwrap();
        let read = offered(&table(Reads::None), &refused("read.none", "GET", "https://a.example/x")).unwrap();
        let terms = |capability: &str, addresses: &str, why: &str| Terms {
            capability: capability.into(),
            addresses: addresses.into(),
            why: why.into(),
        };
        for name in ["tracker", "connection/forge"] {
            assert!(write.clone().filled(&terms(name, "", "")).is_ok(), "{name}");
        }
        for (change, terms, field) in [
            (&write, terms("", "", ""), "capability"),
            (&write, terms("Tracker\"", "", ""), "capability"),
            (&write, terms("capability/tracker", "", ""), "capability"),
            (&write, terms("tracker", "10.0.0.1", ""), "addresses"),
            (&write, terms("tracker", "", "because"), "why"),
            (&inside, terms("", "", ""), "addresses"),
            (&inside, terms("tracker", "10.0.0.1", ""), "capability"),
            (&inside, terms("", "10.0.0.1", "two\nlines"), "why"),
            (&read, terms("tracker", "", ""), "capability"),
        ] {
            assert_eq!(change.clone().filled(&terms).unwrap_err().field, field, "{change:?} {terms:?}");
        }
    }

    #[test]
    fn a_text_that_says_more_than_one_row_is_no_change() {
        for text in [
            "",
            "engine = \"docker\"\n[[egress.write]]\ncapability=\"\"\nhost=\"a.example\"\nmethod=\"POST\"\npath=\"/\"\n",
            "[egress]\npackages = [\"rust\"]\n",
            "[egress]\nreads = \"any\"\n",
            "[[egress.tunnel]]\npackages = \"node\"\nmib = 1\nseconds = 1\n",
            "[[egress.read]]\nhost = \"a.example\"\n[[egress.read]]\nhost = \"b.example\"\n",
        ] {
            assert_eq!(Change::of(text), None, "{text}");
        }
    }

    /// What a box may put into a host, a path or a method to break out of the text that a person is shown.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\"".to_owned()),
            Just("\\".to_owned()),
            Just("\n".to_owned()),
            Just("\"\nhost = \"evil.example".to_owned()),
            Just("\"]\n[[folders]]\npath=\"/etc".to_owned()),
            Just("%22%0A".to_owned()),
            Just("#".to_owned()),
            Just("'''".to_owned()),
            Just("<script>".to_owned()),
            Just("\u{1b}[2J".to_owned()),
            Just("\u{202e}".to_owned()),
            "[a-z0-9./_~-]{0,12}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nothing_that_a_box_writes_adds_anything_but_one_row_for_the_very_host_that_it_asked_for(
            path in hostile(), method in hostile(), host in hostile(), which in 0..5usize,
        ) {
            let (reads, rule) = [
                (Reads::None, "read.none"), (Reads::Listed, "read.unlisted"), (Reads::Any, "port.closed"),
                (Reads::Any, "write.no-row"), (Reads::Any, "host.internal"),
            ][which];
            let egress = table(reads);
            let law = Law::of(&egress).unwrap();
            for (method, target) in [
                ("POST", format!("https://api.example.org/{path}")),
                (method.as_str(), format!("https://api.example.org/{path}")),
                ("GET", format!("https://{host}/{path}")),
                ("GET", format!("http://wiki.corp:{host}/{path}")),
            ] {
                let refused = refused(rule, method, &target);
                let Some(Proposal { toml, opens }) = Proposal::of(&law, rule, method, &target) else { continue };
                let text = format!("{toml}{opens}");
                prop_assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' ' || c == '\n'), "{text:?}");
                let change = Change::of(&toml);
                prop_assert!(change.is_some(), "{toml}");
                let of_target = target::absolute(&target).unwrap().host;
                let host = match change.unwrap() {
                    Change::Read(row) => row.host,
                    Change::Write(row) => {
                        prop_assert_eq!(row.capability, "");
                        row.host
                    }
                    Change::Internal(row) => row.host,
                };
                prop_assert_eq!(host.as_str(), of_target.as_str(), "{:?}", refused);
            }
        }
    }
}
