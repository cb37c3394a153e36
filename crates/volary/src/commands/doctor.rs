//! `volary doctor`.

use anyhow::bail;
use sandbox::doctor::checks;

/// Prints every check; status 1 when one fails.
pub fn main(json: bool) -> anyhow::Result<i32> {
    let all = checks();
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        for check in &all {
            println!("{} {:<14} {}", if check.ok { "ok     " } else { "MISSING" }, check.name, check.found);
            if !check.ok {
                println!("        → {}", check.fix);
            }
        }
        let missing = all.iter().filter(|check| !check.ok).count();
        println!();
        match missing {
            0 => println!("This host can keep boxes."),
            _ => println!("This host cannot keep boxes yet: do what the arrows say."),
        }
    }
    Ok(i32::from(all.iter().any(|check| !check.ok)))
}

/// Boxes need all of it; without one of them nothing is started, and the first thing to do is said.
pub fn refuse_unless_able() -> anyhow::Result<()> {
    match checks().into_iter().find(|check| !check.ok) {
        None => Ok(()),
        Some(check) => {
            bail!("this host cannot keep boxes yet: {}: {}.\nDo this: {}", check.name, check.found, check.fix)
        }
    }
}
