//! What may leave a box, and to where. Pure: the gateway brings what it was asked and what a name became,
//! and gets a word; nothing here resolves, connects or keeps anything.
//!
//! Reads go by method, writes by row: GET and HEAD without body, credential or override may be allowed by the
//! profile's `reads`; everything else needs a row that names credential, host, method and path. What no table
//! allows is refused, with a rule that has a stable name and a sentence for the agent.
//!
//! Read [`host`] (what a host's name is), [`target`] (what a request names), [`signs`] (what its headers carry), `credentials`
//! (by which names one is known),
//! [`law`] (a profile's table, checked once), [`judge()`] (the word), then [`address`] (what a name may become).
//!
//! ```
//! use policy::egress::{Ask, Form, Kind, Law, Signs, Verdict, host::Name, judge};
//! let law = Law::of(&model::Egress::default()).unwrap();
//! let host = Name::parse("Docs.Example.org.").unwrap();
//! let ask = Ask { form: Form::Intercepted, method: "GET", host: &host, port: 443, path: "/guide?q=1", signs: &Signs::default() };
//! let Verdict::Allow(allowed) = judge(&law, &ask) else { panic!("refused") };
//! assert_eq!(allowed.kind, Kind::Read);
//! law.check_addresses(&["93.184.215.14".parse().unwrap()], allowed.internal).unwrap();
//! ```

pub mod address;
mod credentials;
pub mod ground;
pub mod host;
mod judge;
pub mod law;
pub mod next;
mod path;
mod proposal;
pub mod registries;
pub mod signs;
pub mod target;

pub use address::is_public;
pub use host::Name;
pub use judge::{Allowed, Ask, Budget, Denial, Form, Kind, Verdict, judge};
pub use law::{Law, Wrong};
pub use proposal::{MAX_TARGET, Proposal, why_none};
pub use signs::{Handle, Signs};
