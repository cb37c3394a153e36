//! The colours of the style sheet, held against the contrast that WCAG 2.2 asks for (AA: 4.5 for text, 3 for the edges of
//! controls and what shows where the keyboard is), in light and in dark.

use std::collections::HashMap;

const STYLE: &str = include_str!("console.css");

/// Text on what it is shown on: `(colour, grounds)`.
const TEXT: [(&str, &[&str]); 9] = [
    ("ink", &["ground", "paper", "sunk", "wash"]),
    ("faint", &["ground", "paper", "sunk"]),
    ("accent", &["ground", "paper", "sunk", "wash"]),
    ("accent-ink", &["accent"]),
    ("good", &["ground", "paper", "good-wash"]),
    ("bad", &["ground", "paper", "bad-wash"]),
    ("warn", &["ground", "paper", "sunk"]),
    // The button that cannot be taken back.
    ("paper", &["bad"]),
    ("ink", &["bad-wash", "good-wash"]),
];

/// What is not text and has to be seen: edges of fields, the outline of what has the keyboard.
const EDGES: [(&str, &[&str]); 3] =
    [("edge", &["ground", "paper"]), ("accent", &["ground", "paper", "sunk"]), ("bad", &["ground", "paper"])];

/// The colours of one theme: those of `:root`, and for the dark one those that it replaces.
fn colours(dark: bool) -> HashMap<String, [f64; 3]> {
    let (light_part, rest) = STYLE.split_once("prefers-color-scheme: dark").expect("a dark theme");
    let dark_part = rest.split("\n}").next().unwrap();
    let mut all = HashMap::new();
    for part in [Some(light_part), dark.then_some(dark_part)].into_iter().flatten() {
        for line in part.lines() {
            let Some((name, value)) = line.trim().strip_prefix("--").and_then(|l| l.split_once(": #")) else {
                continue;
            };
            let hex = value.trim_end_matches(';');
            assert_eq!(hex.len(), 6, "{line}");
            let channel = |n: usize| f64::from(u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()) / 255.0;
            all.insert(name.to_owned(), [channel(0), channel(1), channel(2)]);
        }
    }
    all
}

/// WCAG's relative luminance.
fn luminance(colour: [f64; 3]) -> f64 {
    let linear = |c: f64| if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

fn ratio(one: [f64; 3], other: [f64; 3]) -> f64 {
    let (a, b) = (luminance(one) + 0.05, luminance(other) + 0.05);
    a.max(b) / a.min(b)
}

#[test]
fn the_ratio_is_wcags() {
    assert!((ratio([0.0; 3], [1.0; 3]) - 21.0).abs() < 1e-9);
    assert!((ratio([1.0; 3], [1.0; 3]) - 1.0).abs() < 1e-9);
    // #767676 on white is the well-known grey that just passes.
    let grey = 118.0 / 255.0;
    assert!((4.5..4.6).contains(&ratio([grey; 3], [1.0; 3])));
}

#[test]
fn every_text_and_every_edge_stands_out_in_both_themes() {
    let mut low = Vec::new();
    for dark in [false, true] {
        let all = colours(dark);
        for (pairs, least) in [(&TEXT[..], 4.5), (&EDGES[..], 3.0)] {
            for (colour, grounds) in pairs {
                for ground in *grounds {
                    let found = ratio(all[*colour], all[*ground]);
                    if found < least {
                        low.push(format!("{colour} on {ground}, dark {dark}: {found:.2} < {least}"));
                    }
                }
            }
        }
    }
    assert_eq!(low, Vec::<String>::new());
}

#[test]
fn the_dark_theme_replaces_every_colour() {
    let (light, dark) = (colours(false), colours(true));
    assert_eq!(light.len(), dark.len());
    assert!(light.len() >= 14, "{}", light.len());
    assert_eq!(light.iter().filter(|(name, colour)| dark[*name] == **colour).count(), 0);
}
