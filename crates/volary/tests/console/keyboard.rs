//! Every page for whoever reads it: by the keyboard alone, on a small screen, by its names and its order.

use crate::{Gate, KEY, VOLARY, shell, sign_in, start, state};
use serde_json::{Value, json};
use testkit::{Browser, Platform, Repo, eventually};

/// What the keyboard has to reach, in the order of the page; each is given a number.
const NUMBER_CONTROLS: &str = r#"
    const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
    // Of a fold that is shut only the summary is there, though the rest has a place.
    const shut = (e) => {
        for (let d = e.closest("details:not([open])"); d; d = d.parentElement.closest("details:not([open])"))
            if (e.parentElement !== d || !e.matches("summary")) return true;
        return false;
    };
    const open = (e) => e.getClientRects().length > 0 && !e.disabled && e.type !== "hidden" && !shut(e);
    const shown = [...all].filter(open);
    shown.forEach((e, n) => { e.dataset.n = n; });
    return shown.length;
"#;

/// Which of them has the keyboard, and whether that is to be seen; none at the page itself.
const WHERE: &str = r#"
    const e = document.activeElement;
    if (!e || e === document.body || e.dataset.n === undefined) return null;
    const style = getComputedStyle(e);
    const box = e.getBoundingClientRect();
    const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.width > 1 && box.height > 1;
    return [Number(e.dataset.n), seen, (e.id || e.name || e.textContent || "").trim().slice(0, 40)];
"#;

/// What is wrong with a page for who does not see it, or sees little of it.
const FAULTS: &str = r#"
    const faults = [];
    const text = (e) => (e.textContent || "").replace(/\s+/g, " ").trim();
    const named = (e) => {
        const ids = (e.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
        if (ids.some((id) => text(document.getElementById(id) || {}))) return true;
        if ((e.getAttribute("aria-label") || "").trim()) return true;
        if (e.labels && [...e.labels].some(text)) return true;
        return !e.matches("input, select, textarea") && text(e) !== "";
    };
    for (const e of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [role=group], [role=log], nav, iframe"))
        if (!named(e)) faults.push("no name: " + e.outerHTML.slice(0, 90));
    for (const e of document.querySelectorAll("[aria-describedby], [aria-labelledby], label[for]"))
        for (const id of [e.getAttribute("aria-describedby"), e.getAttribute("aria-labelledby"), e.getAttribute("for")].filter(Boolean).join(" ").split(" "))
            if (!document.getElementById(id)) faults.push("tied to nothing: #" + id);
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    for (const id of new Set(ids.filter((id, n) => ids.indexOf(id) !== n))) faults.push("two of id " + id);
    let depth = 0;
    const headings = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")];
    if (headings.filter((h) => h.tagName === "H1").length !== 1) faults.push("not one h1");
    for (const h of headings) {
        const level = Number(h.tagName[1]);
        if (level > depth + 1) faults.push("heading skips a level: " + text(h).slice(0, 60));
        depth = level;
    }
    if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
    if (document.querySelectorAll("body > header").length !== 1) faults.push("not one banner");
    if (document.querySelectorAll("body > header nav[aria-label]").length !== 1) faults.push("no named navigation");
    if (document.documentElement.lang !== "en") faults.push("no language");
    if (!document.title.trim()) faults.push("no title");
    for (const e of document.querySelectorAll("img:not([alt]), svg:not([aria-hidden])")) faults.push("a picture without words");
    for (const e of document.querySelectorAll("th")) if (!text(e)) faults.push("an empty heading of a table");
    for (const e of document.querySelectorAll("tr")) {
        const table = e.closest("table");
        if (getComputedStyle(e).display !== "table-row" && !e.hasAttribute("role")) faults.push("a row that is none to a reader");
        if (getComputedStyle(table).display !== "table" && !table.hasAttribute("role")) faults.push("a table that is none");
    }
    for (const e of document.querySelectorAll("button, .button, input:not([type=hidden]), select, summary"))
        if (e.getClientRects().length && e.getBoundingClientRect().height < 24) faults.push("too low to hit: " + e.outerHTML.slice(0, 60));
    const wide = document.documentElement.scrollWidth;
    if (wide > window.innerWidth) faults.push("wider than the screen: " + wide + " > " + window.innerWidth);
    return faults;
"#;

/// A platform with one run that is over, one that waits, and every page's address.
fn house(platform: &Platform, gate: &Gate, repo: &Repo) -> (String, Vec<String>) {
    let fix = json!([{ "name": "edit", "input": { "path": "max.c", "old": "a < b", "new": "a > b" } }]);
    // A refusal, by a rule that a row would lift; nothing is asked for a name.
    let talk = shell(&format!("curl -s http://docs.example.org:8080/guide; echo here; {}", gate.wait()));
    let turns =
        json!([{ "text": "I mend it.", "tools": fix }, { "text": "I wait.", "tools": talk }, { "text": "So." }]);
    platform.script("scripted", &turns, KEY);
    let run = start(platform, repo, "Mend the function that takes the larger of two numbers, and wait for me then");
    let pages = [
        "/",
        "/runs/new",
        "/models",
        "/secrets",
        "/secrets/rotate?name=model/scripted",
        "/secrets/delete?name=model/scripted",
        "/connections",
        "/leases",
        "/evidence",
    ];
    let mut pages: Vec<String> = pages.iter().map(|page| (*page).to_owned()).collect();
    let refusal = format!("/runs/{run}/denials/1");
    pages.extend([format!("/runs/{run}"), format!("/runs/{run}/cancel"), format!("{refusal}/allow"), refusal]);
    (run, pages)
}

fn faults(browser: &Browser) -> Vec<String> {
    serde_json::from_value(browser.script(FAULTS)).expect("a list of faults")
}

#[test]
fn every_page_has_names_order_and_landmarks_and_fits_a_phone() {
    let platform = Platform::start(VOLARY);
    let (gate, repo) = (Gate::new(&platform), Repo::failing());
    let (run, pages) = house(&platform, &gate, &repo);
    let (desk, phone) = (Browser::start(), Browser::start_sized(360, 740));
    for browser in [&desk, &phone] {
        drop(sign_in(&platform, browser));
        browser.open(&format!("{}/runs/{run}", platform.url()));
        browser.wait_for_text(".output", "here");
        for page in &pages {
            browser.open(&format!("{}{page}", platform.url()));
            browser.wait_for("h1");
            assert_eq!(faults(browser), Vec::<String>::new(), "{page}");
        }
        // What a form says of a wrong value is part of it.
        browser.open(&format!("{}/runs/new", platform.url()));
        browser.fill("#task", "x");
        browser.fill("#repo", "not/absolute");
        browser.click("main form button");
        browser.wait_for_text("#repo-wrong", "neither an absolute path");
        assert_eq!(browser.script("return document.querySelector('#task').value"), json!("x"));
        assert_eq!(faults(browser), Vec::<String>::new(), "the form with a fault");
    }
    // The checks find what they are for.
    let broken = r#"
        document.querySelector("h1").outerHTML = "<h3>x</h3><button></button>";
        document.body.append(document.createElement("input"), document.createElement("div"));
        document.body.lastChild.style.cssText = "width: 9999px; height: 1px";
    "#;
    drop(phone.script(broken));
    let found = faults(&phone).join("\n");
    for fault in ["not one h1", "skips a level", "no name: <button", "no name: <input", "wider than the screen"] {
        assert!(found.contains(fault), "{fault}: {found}");
    }
    gate.open();
    drop((desk, phone));
    platform.stop();
}

#[test]
fn tab_reaches_every_control_in_its_order_and_shows_where_it_is() {
    let platform = Platform::start(VOLARY);
    let (gate, repo) = (Gate::new(&platform), Repo::failing());
    let (run, pages) = house(&platform, &gate, &repo);
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    // A page that still grows would change under the keyboard.
    gate.open();
    eventually("the run's end", || (state(&platform, &run) == "done").then_some(()));
    for page in pages.iter().filter(|page| !page.ends_with("/cancel")) {
        browser.open(&format!("{}{page}", platform.url()));
        browser.wait_for("h1");
        // Its rows are made anew once, when its stream begins; a number that was given before that would be gone.
        if browser.count("[data-live]") > 0 {
            browser.wait_for("[data-live][data-fresh]");
        }
        let controls = browser.script(NUMBER_CONTROLS).as_u64().expect("a number");
        assert!(controls >= 7, "{page}: {controls}");
        let mut reached = Vec::new();
        // Where the keyboard begins (some pages put it somewhere) and once around, the page itself included.
        for pressed in 0..controls + 2 {
            if let Value::Array(here) = browser.script(WHERE) {
                // Until a key was pressed nobody is known to use them.
                let shown = pressed == 0 || here[1] == json!(true);
                assert!(shown, "{page}: {} has the keyboard and does not show it", here[2]);
                reached.push(here[0].as_u64().expect("a number"));
            }
            browser.press(Browser::TAB);
        }
        let first = *reached.first().expect("the keyboard is somewhere");
        let around: Vec<u64> = (0..controls).map(|n| (first + n) % controls).collect();
        assert_eq!(reached[..around.len().min(reached.len())], around[..], "{page}");
    }
    drop(browser);
    platform.stop();
}

#[test]
fn a_run_is_started_watched_and_cancelled_by_the_keyboard_alone() {
    let platform = Platform::start(VOLARY);
    let (gate, repo) = (Gate::new(&platform), Repo::failing());
    let wait = shell(&format!("echo here; {}", gate.wait()));
    platform.script("scripted", &json!([{ "text": "I wait.", "tools": wait }]), KEY);
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.open(&format!("{}/", platform.url()));

    // The first Tab is the way past the navigation.
    browser.press(Browser::TAB);
    assert_eq!(browser.script("return document.activeElement.className"), json!("skip"));
    browser.press(Browser::ENTER);
    browser.wait_until("the keyboard is in the content", |b| {
        b.script("return document.activeElement.id") == json!("main")
    });
    browser.press(Browser::TAB);
    assert_eq!(browser.script("return document.activeElement.textContent"), json!("Start a run"));
    browser.press(Browser::ENTER);
    browser.wait_for_text("h1", "Start a run");

    let write = |text: &str| text.chars().for_each(|key| browser.press(key));
    browser.wait_until("the keyboard is in the first field", |b| {
        b.script("return document.activeElement.id") == json!("task")
    });
    write("Wait for me");
    browser.press(Browser::TAB);
    write(repo.path_str());
    browser.press(Browser::TAB);
    write("scripted");
    browser.press(Browser::TAB);
    write("gated");
    browser.press(Browser::TAB);
    assert_eq!(browser.script("return document.activeElement.textContent"), json!("Start the run"));
    browser.press(Browser::ENTER);
    browser.wait_for_text(".output", "here");
    let run = browser.url().rsplit('/').next().unwrap().split(['#', '?']).next().unwrap().to_owned();
    assert_eq!(platform.json(&["runs", "--json"])[0]["profile"], "gated");

    // A fold opens by Enter, and Escape closes it and stays there.
    drop(browser.script("document.querySelector('main summary').focus()"));
    let open = || browser.script("return document.activeElement.closest('details')?.open ?? null");
    assert_eq!(open(), json!(false));
    browser.press(Browser::ENTER);
    browser.wait_until("the fold is open", |_| open() == json!(true));
    browser.press(Browser::ESCAPE);
    browser.wait_until("the fold is shut", |_| open() == json!(false));

    // A question is left by Escape, and nothing is done.
    let ask = || {
        drop(browser.script("document.querySelector('#cancel').focus()"));
        browser.press(Browser::ENTER);
        browser.wait_for_text("h1", "Cancel this run?");
    };
    ask();
    browser.press(Browser::ESCAPE);
    browser.wait_for("#cancel");
    assert_eq!(state(&platform, &run), "running");
    ask();
    assert_eq!(browser.script("return document.activeElement.textContent"), json!("Let it run"), "the safe answer");
    drop(browser.script("document.querySelector('main form button').focus()"));
    browser.press(Browser::ENTER);
    browser.wait_for_text("#state", "cancelled");
    drop(browser);
    platform.stop();
}
