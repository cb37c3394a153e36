//! Every route that can be read, asked about what there is.

use crate::everything::NAME;
use crate::search::Search;
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use testkit::Platform;

/// The golden that names every route: a new one is looked at without a line here, or fails for want of what it is about.
const ROUTES: &str = include_str!("../../../../docs/generated/routes.md");
/// Those that show nothing over the port, each with the reason.
const SILENT: [&str; 1] = [
    // Over the home's own socket alone; `volary backup` asks there, and what it got is looked through.
    "/api/backup",
];
/// Seconds after which a route that goes on by itself (`/live`) has shown what it has.
const LIVE_SECS: &str = "15";
/// Seconds that any other route may take, far above what one ever needs.
const SECS: &str = "60";

/// What routes are about.
struct There {
    runs: Vec<String>,
    /// Run and number.
    denials: Vec<(String, String)>,
    leases: Vec<String>,
    connections: Vec<String>,
    /// As a query names them.
    secrets: Vec<String>,
    /// Of a link that signs in.
    token: String,
}

impl There {
    fn of(platform: &Platform, runs: &[String]) -> Self {
        let all = |line: &[&str], one: &dyn Fn(&serde_json::Value) -> String| -> Vec<String> {
            platform.json(line).as_array().expect("a list").iter().map(one).collect()
        };
        let field = |name: &'static str| move |row: &serde_json::Value| row[name].as_str().expect("a text").to_owned();
        let denials = runs.iter().flat_map(|run| {
            let of_run = all(&["explain", run, "--json"], &|denial| denial["n"].to_string());
            of_run.into_iter().map(move |n| (run.clone(), n))
        });
        let secret = |row: &serde_json::Value| {
            format!("name={}{}", field("name")(row), if row["person"].is_null() { "" } else { "&mine=true" })
        };
        Self {
            runs: runs.to_vec(),
            denials: denials.collect(),
            leases: all(&["lease", "list", "--all", "--json"], &field("lease")),
            connections: all(&["connect", "list", "--json"], &field("name")),
            secrets: all(&["secret", "list", "--json"], &secret),
            token: link(platform).rsplit_once('/').expect("a path").1.to_owned(),
        }
    }

    /// A route with each thing that it can be about.
    fn filled(&self, route: &str) -> Vec<String> {
        let query = |asks: &[String]| asks.iter().map(|ask| format!("{route}?{ask}")).collect();
        let each = |name: &str, values: &[String]| values.iter().map(|value| route.replace(name, value)).collect();
        match route {
            "/secrets/delete" | "/secrets/rotate" => query(&self.secrets),
            "/connections/revoke" | "/connections/remove" => {
                query(&self.connections.iter().map(|name| format!("name={name}")).collect::<Vec<_>>())
            }
            "/connections/callback" => query(&["state=a&code=b".into(), "error=access_denied".into()]),
            "/api/leases" => vec![route.to_owned(), format!("{route}?all=true")],
            _ if route.contains("{n}") => {
                self.denials.iter().map(|(run, n)| route.replace("{run}", run).replace("{n}", n)).collect()
            }
            // From its first entry on.
            "/runs/{run}/live" => {
                self.runs.iter().map(|run| format!("{}?from=1&after=0", route.replace("{run}", run))).collect()
            }
            _ if route.contains("{run}") => each("{run}", &self.runs),
            _ if route.contains("{lease}") => each("{lease}", &self.leases),
            _ if route.contains("{name}") => each("{name}", &self.connections),
            _ => vec![route.replace("{token}", &self.token)],
        }
    }
}

fn link(platform: &Platform) -> String {
    let link = platform.json(&["sign-in", "--json"]);
    link["url"].as_str().unwrap_or_else(|| panic!("no link in {link}")).to_owned()
}

/// Has what every route shows looked through. Each but the [`SILENT`] ones shows something of what there is.
pub fn look(platform: &Platform, runs: &[String], search: &mut Search) {
    // In a folder of its own: curl writes it anew beside itself.
    let jar = tempfile::tempdir().expect("a folder");
    let jar = jar.path().join("jar");
    let jar = jar.to_str().expect("a plain path");
    let origin = platform.url();
    let curl = |secs: &str, args: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sSi", "--max-time", secs, "-b", jar])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("curl starts")
    };
    let told = |curl: Child| curl.wait_with_output().expect("curl's output").stdout;
    let signed_in = ["-c", jar, "-X", "POST", "-H", &format!("origin: {origin}"), &link(platform)];
    search.through("the sign-in", &told(curl(SECS, &signed_in)));

    let there = There::of(platform, runs);
    let routes: Vec<&str> =
        ROUTES.lines().filter_map(|line| line.strip_prefix("| GET | `")?.split('`').next()).collect();
    let paths = routes.iter().flat_map(|route| there.filled(route).into_iter().map(|path| (*route, path)));
    let (live, others): (Vec<_>, Vec<_>) = paths.partition(|(route, _)| route.ends_with("/live"));
    // Those that go on by themselves all at once, while the others are read one after the other.
    let live: Vec<_> = live.into_iter().map(|at| (curl(LIVE_SECS, &[&format!("{origin}{}", at.1)]), at)).collect();
    let others = others.into_iter().map(|at| (curl(SECS, &[&format!("{origin}{}", at.1)]), at));
    let mut shown = BTreeSet::new();
    let mut look = |(curl, (route, path)): (Child, (&'static str, String))| {
        let out = told(curl);
        let status = String::from_utf8_lossy(&out).split(' ').nth(1).unwrap_or_default().to_owned();
        // What is over leads elsewhere (303), or is to be said more of (400), or cannot be (409); no name is unknown.
        assert!(matches!(&*status, "200" | "303" | "400" | "409") || SILENT.contains(&route), "{path}: {status}");
        if status == "200" {
            shown.insert(route);
        }
        search.through(&format!("GET {path}"), &out);
    };
    others.for_each(&mut look);
    live.into_iter().for_each(&mut look);
    let silent: Vec<&str> = routes.into_iter().filter(|route| !shown.contains(route)).collect();
    assert_eq!(silent, SILENT, "these showed nothing of what there is, as {NAME}");
}
