//! The table as a reviewer reads it.

use super::{Cell, Channel, Custody, Phase, cell, form};
use crate::minters::MINTERS;
use std::fmt::Write as _;

/// The whole table, in Markdown. Cells of one channel that say the same of every custody stand in one line.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(
        "# How a credential may travel\n\nBy the phase of a run, the channel, and whose key it is: *managed* (of a known provider), \
         *derived* (made of a managed one by its vendor for one lease), *custom* (any other). A handle is no \
         credential and is not spoken of here. A row that may names what carries it; `not yet` is what would be let through, and \
         nothing carries: a profile has no word for it.\n",
    );
    for phase in Phase::ALL {
        // Writing to a String does not fail.
        let _ =
            writeln!(out, "\n## {}\n\n| channel | whose key | may | by | why |\n|---|---|---|---|---|", phase.word());
        for channel in Channel::ALL {
            let cells = Custody::ALL.map(|custody| (custody.word(), cell(phase, channel, custody)));
            let [(_, first), rest @ ..] = cells;
            if rest.iter().all(|(_, cell)| *cell == first) {
                line(&mut out, channel, "any", first);
            } else {
                for (whose, cell) in cells {
                    line(&mut out, channel, whose, cell);
                }
            }
        }
    }
    out.push_str(
        "\n## what is a text\n\nA custom secret that has spaces or line ends (a key file, a file of settings) travels to a command by \
         its file or its standard input, and by nothing else.\n",
    );
    out.push_str(
        "\n## what is minted\n\nOf a derived value, beside the above: whether it has a form for the channel.\n\n\
         | channel | kind | has a form | by | why |\n|---|---|---|---|---|\n",
    );
    for channel in Channel::ALL {
        for minter in &MINTERS {
            line(&mut out, channel, &format!("`{}`", minter.id), form(channel, minter));
        }
    }
    out
}

fn line(out: &mut String, channel: Channel, whose: &str, Cell { may, by, why }: Cell) {
    let may = match (may, by) {
        (true, _) => "yes",
        (false, "") => "no",
        (false, _) => "not yet",
    };
    let _ = writeln!(out, "| {} | {whose} | {may} | {by} | {why} |", channel.word());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_and_every_channel_stands_on_the_page() {
        let page = page();
        assert_eq!(page.matches("\n## ").count(), Phase::ALL.len() + 2);
        for channel in Channel::ALL {
            assert!(page.matches(&format!("| {} |", channel.word())).count() >= Phase::ALL.len(), "{channel:?}");
        }
    }
}
