//! Rows of capabilities and variables, right and wrong.

use super::*;

fn row(name: &str) -> Capability {
    Capability {
        name: name.into(),
        secret: "capability/shop".into(),
        kind: Kind::Command,
        destinations: vec!["shop".into()],
        delivery: Delivery::Variable("TOKEN".into()),
        executables: vec!["/usr/bin/curl".into()],
        seconds: None,
        per_minute: None,
        per_run: None,
    }
}

fn said(change: impl FnOnce(&mut Capability)) -> String {
    let mut row = row("shop");
    change(&mut row);
    check(&[row], &BTreeMap::new()).map_or_else(|wrong| wrong.to_string(), |()| String::new())
}

#[test]
fn a_row_with_everything_is_one_and_each_part_that_is_wrong_is_named() {
    assert_eq!(said(|_| ()), "");
    assert!(said(|row| row.name = "Shop".into()).contains("a-z"));
    assert!(said(|row| row.secret = String::new()).contains("vault"));
    assert!(said(|row| row.destinations.clear()).contains("destinations"));
    assert!(said(|row| row.destinations = vec!["two words".into()]).contains("destination"));
    assert!(said(|row| row.executables.clear()).contains("executables"));
    assert!(said(|row| row.delivery = Delivery::Variable("ld_preload".into())).contains("A-Z"));
    assert_eq!(said(|row| (row.delivery, row.executables) = (Delivery::Proxy, Vec::new())), "");
    let two = check(&[row("shop"), row("shop")], &BTreeMap::new()).unwrap_err();
    assert_eq!(two.to_string(), "capability \"shop\": there are two of this name");
}

#[test]
fn a_profile_has_64_capabilities_with_32_destinations_and_programs_each_and_64_variables_of_4096_bytes() {
    let rows = |many: usize| (0..many).map(|n| row(&format!("shop-{n}"))).collect::<Vec<_>>();
    assert_eq!(check(&rows(64), &BTreeMap::new()), Ok(()));
    assert!(check(&rows(65), &BTreeMap::new()).is_err());
    let many = |many: usize| (0..many).map(|n| format!("shop-{n}")).collect::<Vec<_>>();
    assert_eq!(said(|row| row.destinations = many(32)), "");
    assert!(said(|row| row.destinations = many(33)).contains("32 destinations"));
    let programs = |count: usize| many(count).into_iter().map(|name| format!("/usr/bin/{name}").into()).collect();
    assert_eq!(said(|row| row.executables = programs(32)), "");
    assert!(said(|row| row.executables = programs(33)).contains("32 executables"));
    let variables = |many: usize, bytes: usize| {
        let text = || Variable::Literal("x".repeat(bytes));
        check(&[], &(0..many).map(|n| (format!("V{n}"), text())).collect())
    };
    assert_eq!(variables(64, 4096), Ok(()));
    assert!(variables(65, 1).is_err() && variables(1, 4097).is_err());
}

#[test]
fn a_program_that_a_run_could_write_is_not_declared() {
    for bad in ["bin/x", "/workspace/x", "/tmp/x", "/usr/../tmp/x", "/proc/self/exe", "/run/x", "/dev/fd/3", "/"] {
        assert!(!declared(Path::new(bad)), "{bad}");
    }
    assert!(declared(Path::new("/usr/bin/git")));
}

#[test]
fn a_name_that_steers_programs_is_no_variable_of_a_profile() {
    for bad in [
        "PATH",
        "LD_PRELOAD",
        "GIT_CONFIG_COUNT",
        "HTTPS_PROXY",
        "VOLARY_HANDLE",
        "BASH_ENV",
        "SSL_CERT_FILE",
        "1A",
        "",
        "a",
    ] {
        assert!(variable_name(bad).is_err(), "{bad:?}");
    }
    for good in ["GITHUB_TOKEN", "_X", "A1"] {
        assert_eq!(variable_name(good), Ok(()), "{good}");
    }
}

#[test]
fn a_variable_is_a_text_or_a_capability_of_this_profile() {
    let of = |name: &str, variable| BTreeMap::from([(name.to_owned(), variable)]);
    let handle = |name: &str| Variable::Handle { capability: name.into() };
    assert_eq!(check(&[row("shop")], &of("SHOP", handle("shop"))), Ok(()));
    assert!(check(&[row("shop")], &of("SHOP", handle("other"))).unwrap_err().why.contains("no capability"));
    assert_eq!(check(&[], &of("REGION", Variable::Literal("eu".into()))), Ok(()));
    assert!(check(&[], &of("REGION", Variable::Literal("e\0u".into()))).is_err());
    assert!(check(&[], &of("PATH", Variable::Literal("/tmp".into()))).is_err());
}

#[test]
fn an_agent_is_told_what_it_may_ask_for_and_not_what_it_is_called_in_the_vault() {
    let told = told(&[row("shop")], &Egress::default());
    assert!(told.contains("- shop (command): shop; for /usr/bin/curl") && !told.contains("capability/shop"), "{told}");
}

fn write(capability: &str, host: &str, method: &str, port: Option<u16>) -> WriteRow {
    WriteRow { capability: capability.into(), host: host.into(), method: method.into(), path: "/v1".into(), port }
}

#[test]
fn rows_to_write_are_a_capability_of_their_own_unless_the_profile_has_one_of_that_name() {
    let write = vec![
        write("tracker", "api.example.org", "POST", None),
        write("shop", "shop.example.org", "POST", None),
        write("tracker", "api.example.org", "PUT", Some(443)),
        write("tracker", "api.example.org", "POST", Some(8443)),
        write("connection/forge", "forge.example.org", "GET", None),
    ];
    let egress = Egress { write, ..Egress::default() };
    let all = leasable(&[row("shop")], &egress);
    let names: Vec<(&str, &str)> = all.iter().map(|row| (row.name.as_str(), row.secret.as_str())).collect();
    assert_eq!(
        names,
        [("shop", "capability/shop"), ("tracker", "capability/tracker"), ("connection/forge", "connection/forge")]
    );
    // The profile's own row stays as it is, with its programs and destinations.
    assert_eq!(all[0], row("shop"));
    assert_eq!(all[1].destinations, ["api.example.org", "api.example.org:8443"]);
    assert!(all[1].delivery == Delivery::Proxy && all[1].executables.is_empty() && all[1].kind == Kind::Command);
    for one in &all {
        assert_eq!(leasable_as(&one.name, &[row("shop")], &egress).as_ref(), Some(one));
    }
    assert_eq!(leasable_as("other", &[row("shop")], &egress), None);
    let told = told(&[row("shop")], &egress);
    for line in [
        "- shop (command): shop; for /usr/bin/curl\n  - POST https://shop.example.org/v1\n",
        "- tracker (command): api.example.org, api.example.org:8443\n  - POST https://api.example.org/v1\n",
        "  - POST https://api.example.org:8443/v1\n- connection/forge (command): forge.example.org\n",
    ] {
        assert!(told.contains(line), "{line}{told}");
    }
}

#[test]
fn a_profile_writes_a_delivery_as_a_word_or_with_its_name() {
    let read = |text: &str| serde_json::from_str::<Delivery>(text).unwrap();
    assert_eq!(read("\"proxy\""), Delivery::Proxy);
    assert_eq!(read("\"git-helper\""), Delivery::GitHelper);
    assert_eq!(read("{\"variable\": \"TOKEN\"}"), Delivery::Variable("TOKEN".into()));
    let variable = |text: &str| serde_json::from_str::<Variable>(text);
    assert_eq!(variable("\"eu\"").unwrap(), Variable::Literal("eu".into()));
    assert_eq!(variable("{\"capability\": \"shop\"}").unwrap(), Variable::Handle { capability: "shop".into() });
    assert!(variable("{\"secret\": \"shop\"}").is_err());
    assert!(variable("{\"capability\": \"shop\", \"value\": \"x\"}").is_err());
}
