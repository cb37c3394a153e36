//! The leak hunt: each kind of secret is used in each way, by tools and hosts that echo, log, mis-report and reflect it;
//! afterwards everything that the platform keeps or shows is searched for every secret in every form.

mod everything;
mod search;

use everything::Said;
use search::{Canary, Search};
use std::fmt::Write as _;
use std::io::Read as _;
use testkit::{Outside, Platform, mirror};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// A value that nobody else's search meets: random, of characters that each form writes in its own way.
fn odd() -> String {
    format!("k/{}+~\"q\\{}==", random(), random())
}

/// One that may stand in a name of a header too.
fn plain() -> String {
    format!("canary{}{}", random(), random())
}

fn random() -> String {
    let mut bytes = [0; 8];
    let mut source = std::fs::File::open("/dev/urandom").expect("the kernel has random bytes");
    source.read_exact(&mut bytes).expect("the kernel has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_credential_that_its_host_gives_back_in_every_way_is_kept_and_shown_nowhere() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let (odd, plain) = (odd(), plain());
    platform.secret("capability/odd", &odd);
    platform.secret("capability/plain", &plain);
    let rows = |name: &str| {
        ["GET", "POST"].iter().fold(String::new(), |mut rows, method| {
            let host = mirror::HOST;
            write!(
                rows,
                "[[egress.write]]\ncapability = \"{name}\"\nhost = \"{host}\"\nmethod = \"{method}\"\npath = \"/\"\n"
            )
            .expect("memory takes it");
            rows
        })
    };
    let mut said = Said::default();
    for name in ["odd", "plain"] {
        std::fs::write(platform.home().join(format!("profiles/{name}.toml")), rows(name))
            .expect("the profile is written");
        let ask = mirror::WAYS.iter().fold(String::new(), |mut ask, way| {
            // The answer to the terminal, to a file named by the host, and once by basic sign-in.
            let url = format!("https://{}/{way}", mirror::HOST);
            write!(
                ask,
                "echo '== {way}'; curl -sS -D - -H \"authorization: Bearer $VOLARY_HANDLE\" {url}; \
                 curl -sSOJ -X POST -d a=b -H \"x-api-key: $VOLARY_HANDLE\" {url}?1; \
                 curl -sSvL -u \"u:$VOLARY_HANDLE\" {url} 2>&1; "
            )
            .expect("memory takes it");
            ask
        });
        let out =
            platform.cli(&["exec", "--profile", name, "--", "sh", "-c", &format!("cd /workspace; {ask} ls -l; cat *")]);
        // The control: the mirror was reached with the credential, and what it gave back was taken out.
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            shown.matches("[redacted: ").count() >= mirror::WAYS.len(),
            "{shown}\n{}",
            String::from_utf8_lossy(&out.stderr)
        );
        assert!(!shown.contains("you sent nothing"), "{shown}");
        said.of(&format!("exec --profile {name}"), &out);
    }
    let mut search = Search::new(vec![Canary::new("the odd secret", &odd), Canary::new("the plain secret", &plain)]);
    everything::look(&platform, &said, &mut search);
    search.verdict();
    platform.stop();
}
