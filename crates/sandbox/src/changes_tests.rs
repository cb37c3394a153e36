//! What is carried of an upper half, and what is not.

use super::*;
use std::fs;
use std::path::Path;

/// What is carried of an upper half made by `fill`, over an empty lower one; by path.
fn carried((room, in_folder): (u64, u64), fill: impl Fn(&Path)) -> (Vec<String>, Vec<String>) {
    carried_most((room, in_folder, MOST_NAMES), fill)
}

fn carried_most(most: (u64, u64, usize), fill: impl Fn(&Path)) -> (Vec<String>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let [lower, upper, merged] = ["lower", "upper", "merged"].map(|name| dir.path().join(name));
    fs::create_dir(&lower).unwrap();
    for half in [&upper, &merged] {
        fs::create_dir(half).unwrap();
        fill(half);
    }
    let mut wire = Vec::new();
    let paths = Paths { lower, upper, merged };
    let count = stream_most(&paths, 1 << 20, most, &mut wire).unwrap();
    let (mut from, mut paths) = (&wire[..], Vec::new());
    loop {
        match api::changes::read(&mut from).unwrap() {
            Change::File { path, len: 0, .. } => paths.push(String::from_utf8(path).unwrap()),
            Change::End { count: said } => {
                assert_eq!((said, said), (count.changes, paths.len() as u64));
                return (paths, count.left_out);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn files(folder: &Path, count: usize) {
    fs::create_dir_all(folder).unwrap();
    for n in 0..count {
        fs::write(folder.join(format!("f{n}")), "").unwrap();
    }
}

#[test]
fn what_a_folder_holds_beyond_its_most_is_left_out_and_counted_in_one_line() {
    let (paths, left_out) = carried((100, 3), |half| {
        files(&half.join("many"), 8);
        files(&half.join("few"), 3);
    });
    assert_eq!(paths, ["few/f0", "few/f1", "few/f2", "many/f0", "many/f1", "many/f2"]);
    assert_eq!(left_out, ["many: 5 changed entries, beyond the 3 in one folder that are carried"]);
}

#[test]
fn a_folder_counts_as_one_entry_of_the_folder_it_is_in_once_something_in_it_changed() {
    let (paths, left_out) = carried((100, 3), |half| {
        for n in 0..5 {
            files(&half.join(format!("top/d{n}")), 2);
            files(&half.join(format!("top/a{n}")), 0);
        }
    });
    assert_eq!(paths, ["top/d0/f0", "top/d0/f1", "top/d1/f0", "top/d1/f1", "top/d2/f0", "top/d2/f1"]);
    assert_eq!(left_out, ["top: 4 changed entries, beyond the 3 in one folder that are carried"]);
}

#[test]
fn of_a_folder_with_more_names_than_there_is_room_for_nothing_is_carried_and_that_is_said() {
    // Three names of two bytes in each, and those of the folders on the way count as well.
    let three = 3 * (2 + NAME);
    let fill = |half: &Path| {
        files(&half.join("a"), 3);
        files(&half.join("b"), 4);
        files(&half.join("c"), 3);
    };
    let said = "b: more names than are read of folders at once; nothing of it is carried";
    let top = 3 * (1 + NAME);
    let (paths, left_out) = carried_most((100, 100, top + three), fill);
    assert_eq!(paths, ["a/f0", "a/f1", "a/f2", "c/f0", "c/f1", "c/f2"]);
    assert_eq!(left_out, [said]);
    // What was read of one is given back for the next: nothing is left out at one name more.
    let (paths, left_out) = carried_most((100, 100, top + three + 2 + NAME), fill);
    assert_eq!((paths.len(), left_out.len()), (10, 0));
    let (paths, left_out) = carried_most((100, 100, top - 1), fill);
    assert_eq!((paths.len(), left_out[0].as_str()), (0, said.replace("b:", ".:").as_str()));
}

#[test]
fn what_is_beyond_the_most_of_all_is_left_out_with_a_line_for_each_folder_and_the_lines_end_somewhere() {
    let (paths, left_out) = carried((4, 3), |half| {
        for n in 0..3 {
            files(&half.join(format!("d{n}")), 2);
        }
    });
    assert_eq!(paths, ["d0/f0", "d0/f1", "d1/f0", "d1/f1"]);
    assert_eq!(left_out, ["d2: 2 changed entries, beyond the 4 in all that are carried"]);

    let (paths, left_out) = carried((1, 1000), |half| {
        for n in 0..70 {
            files(&half.join(format!("d{n:02}")), 1);
        }
    });
    assert_eq!(paths, ["d00/f0"]);
    assert_eq!(left_out.len(), MOST_LINES);
    assert_eq!(left_out[MOST_LINES - 1], "and 20 more files and folders");
}
