//! The list of registries.

use policy::egress::registries::{MAX_LINES, Registries};
use policy::egress::{Law, Name};

#[test]
fn the_list_has_the_groups_that_profiles_name() {
    let groups = ["alpine", "debian", "go", "java", "node", "python", "ruby", "rust", "ubuntu"];
    assert_eq!(Registries::built_in().groups(), groups);
    for group in groups {
        assert!(Registries::built_in().group(group).all(|registry| !registry.why.is_empty()), "{group}");
    }
}

#[test]
fn a_line_out_of_order_twice_short_or_in_another_order_of_labels_is_refused_by_its_number() {
    assert!(Registries::parse("# a comment\n\norg.example.a rust crates\norg.example.b rust more crates\n").is_ok());
    for (text, line) in [
        ("org.example.b rust x\norg.example.a rust x", "line 2: it is not in order"),
        ("org.example.a rust x\norg.example.a rust x", "line 2: it is not in order, or there twice"),
        ("org.example.a rust x\norg.example.a.* rust x", "line 2: it is there twice"),
        ("org.example.a rust", "line 1: it takes a name"),
        ("org.example.a", "line 1: it takes a name"),
        ("org.example.A rust x", "line 1: the name"),
        ("org.example.a Rust x", "line 1: the group"),
        ("org.example.a r2 x", "line 1: the group"),
        ("# one\n\n-org.example.a", "line 3: there is no such registry"),
        ("org.example.a rust x\n-org.example.a", "line 2: it is not in order, or there twice"),
        ("example rust x", "line 1: the name"),
        ("org.*.a rust x", "line 1:"),
        ("1.0.0.127 rust x", "line 1:"),
        ("org..a rust x", "line 1:"),
        ("org.example.a:443 rust x", "line 1:"),
    ] {
        let why = Registries::parse(text).unwrap_err();
        assert!(why.starts_with(line), "{text:?}: {why}");
    }
}

#[test]
fn a_homes_own_list_adds_takes_out_and_takes_the_place_of_lines_and_of_no_others() {
    let list = Registries::parse("org.example.a rust x\norg.example.b.* python x\norg.example.c go x\n").unwrap();
    let own = "# ours\n-org.example.a\norg.example.b ruby only this\norg.example.mirror.* rust ours\n";
    let own = list.amended(own).unwrap();
    for (host, group) in [
        ("a.example.org", None),
        ("b.example.org", Some("ruby")),
        ("x.b.example.org", None),
        ("c.example.org", Some("go")),
        ("x.mirror.example.org", Some("rust")),
    ] {
        let found = own.find(&Name::parse(host).unwrap()).map(|registry| registry.group.as_str());
        assert_eq!(found, group, "{host}");
    }
    assert_eq!(own.groups(), ["go", "ruby", "rust"]);
    assert_eq!(list.amended("").unwrap(), list);
    assert!(list.amended("-org.example.a why").unwrap_err().contains("stands alone"));
    let long: String = (0..=MAX_LINES).map(|n| format!("org.example.r{n:05} rust x\n")).collect();
    assert!(list.amended(&long).unwrap_err().contains("more lines"));
}

#[test]
fn a_table_is_judged_by_the_homes_own_list() {
    let own = ["org.example.mirror rust ours", "org.example.php php another group", "-org.pypi"];
    let told = |text: &str| {
        let mut egress = super::stage::egress(text);
        egress.registries = own.map(str::to_owned).to_vec();
        Law::of(&egress)
    };
    let law = told("reads = 'packages'\npackages = ['rust', 'php', 'python']\ntunnel = [{ packages = 'rust', host = 'mirror.example.org', mib = 1, seconds = 1 }]").unwrap();
    let pypi = turned("org.pypi");
    for (request, rule) in [
        ("GET https://mirror.example.org/x", "read.package"),
        ("GET https://php.example.org/x", "read.package"),
        ("GET https://x.mirror.example.org/x", "read.packages"),
        ("CONNECT mirror.example.org:443", "connect.tunnel"),
        (&format!("GET https://{pypi}/x"), "read.packages"),
        ("POST https://mirror.example.org/x", "write.no-row"),
    ] {
        assert_eq!(super::stage::rule(&super::stage::word(&law, request, "")), rule, "{request}");
    }
    // Without it there is no such group, and no tunnel to such a host.
    assert!(Law::of(&super::stage::egress("reads = 'packages'\npackages = ['php']")).is_err());
    let wrong = told("reads = 'packages'\npackages = ['perl']").unwrap_err().to_string();
    assert!(wrong.contains("there are alpine, debian, go, java, node, php, python"), "{wrong}");
    assert!(told(&format!("tunnel = [{{ packages = 'python', host = '{pypi}', mib = 1, seconds = 1 }}]")).is_err());
}

fn turned(name: &str) -> String {
    name.rsplit('.').collect::<Vec<_>>().join(".")
}

#[test]
fn a_registry_is_found_exactly_or_below_a_declared_name() {
    let list = Registries::parse("org.example.a rust x\norg.example.b.* python x\n").unwrap();
    for (host, group) in [
        ("a.example.org", Some("rust")),
        ("A.Example.Org.", Some("rust")),
        ("x.a.example.org", None),
        ("b.example.org", Some("python")),
        ("x.b.example.org", Some("python")),
        ("y.x.b.example.org", Some("python")),
        ("xb.example.org", None),
        ("b.example.org.evil.example", None),
        ("example.org", None),
        ("org", None),
        ("8.8.8.8", None),
    ] {
        let found = list.find(&Name::parse(host).unwrap()).map(|registry| registry.group.as_str());
        assert_eq!(found, group, "{host}");
    }
}

/// A name in the order that people write is one that a reader of this repository could follow.
#[test]
fn the_list_is_in_reverse_order_of_labels_so_its_first_label_is_a_top_level_name() {
    for group in Registries::built_in().groups() {
        for registry in Registries::built_in().group(group) {
            let last = registry.host.as_str().rsplit('.').next().unwrap();
            assert!(["com", "org", "io", "net", "dev"].contains(&last), "{}", registry.host);
            assert!(registry.host.private().is_none());
        }
    }
}
