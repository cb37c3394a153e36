//! The table of refused calls: each row is met by a call that this row alone refuses, and each call of `kernel.c`
//! that is made by its name has a row.

#[path = "../../../runner/src/walls/refused.rs"]
mod refused;

use crate::support::{attempts, platform};
use std::collections::BTreeMap;

#[test]
fn every_row_of_the_table_of_refused_calls_is_met_in_a_box() {
    let platform = platform();
    let mut expected = BTreeMap::from([("control-getpid".to_owned(), 0)]);
    let mut args = Vec::new();
    for (n, row) in refused::rows().enumerate() {
        let attack = row.attack();
        let [first, second, third, fourth, ..] = attack.unwrap_or_else(|| panic!("nothing needs {}", row.call));
        let name = format!("{}-{n}", row.call);
        args.push(format!("{name} {} {first} {second} {third} {fourth}", row.number));
        expected.insert(name, row.answer.errno());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let met = attempts(&platform, include_str!("calls.c"), &args);
    assert_eq!(met, expected);
}

#[test]
fn no_call_is_attacked_by_its_name_without_a_row_that_refuses_it() {
    let calls = include_str!("kernel.c").split("CALL(").skip(1).filter_map(|rest| rest.split_once(','));
    let calls: Vec<&str> = calls.map(|(call, _)| call).collect();
    assert!(calls.len() > 40, "{calls:?}");
    for call in calls {
        assert!(refused::rows().any(|row| row.call == call), "{call} has no row");
    }
}
