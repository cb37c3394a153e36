//! The command line as it was typed: what is wrong with it is said with what there is instead.

use crate::Cli;
use crate::out::UNWRITTEN;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, Parser};
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

/// The command of these arguments, the program's name first; or what this process ends with, once all is said.
pub fn parse(args: &[OsString]) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(args).map_err(|e| {
        if let Err(cause) = e.print() {
            // Help that was asked for goes to standard output.
            eprintln!("volary: {UNWRITTEN}: {cause}");
            return ExitCode::FAILURE;
        }
        if let Some(instead) = instead(&e, args) {
            eprintln!("{instead}");
        }
        ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2))
    })
}

/// What there is, where something was typed that there is not.
fn instead(e: &clap::Error, args: &[OsString]) -> Option<String> {
    let typed = typed(args);
    let path = typed.get_bin_name().unwrap_or("volary");
    match e.kind() {
        ErrorKind::UnknownArgument => Some(format!("`{path}` takes: {}", options(&typed).join(", "))),
        ErrorKind::InvalidSubcommand => {
            let names: Vec<&str> =
                typed.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
            Some(format!("`{path}` has: {}", names.join(", ")))
        }
        ErrorKind::ValueValidation if e.source().is_some_and(|cause| cause.is::<std::num::ParseIntError>()) => {
            Some("It takes a whole number.".to_owned())
        }
        _ => None,
    }
}

/// The command that the arguments begin, as far as there is one.
fn typed(args: &[OsString]) -> Command {
    let mut command = Cli::command();
    command.build();
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        if arg == "--home" {
            // The next one is a folder, whatever it is called.
            rest.next();
        } else if arg == "--" {
            break;
        } else if let Some(inner) = command.find_subcommand(arg) {
            command = inner.clone();
        }
    }
    command
}

/// Its options, as they are typed.
fn options(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional());
    shown.map(spelled).collect()
}

fn spelled(arg: &Arg) -> String {
    let name =
        arg.get_long().map(|long| format!("--{long}")).or_else(|| arg.get_short().map(|short| format!("-{short}")));
    let name = name.unwrap_or_default();
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).and_then(|names| names.first());
    value.map_or_else(|| name.clone(), |value| format!("{name} <{value}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        let args: Vec<OsString> = ["volary"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
        let e = Cli::try_parse_from(&args).expect_err(line);
        format!("{e}{}", instead(&e, &args).unwrap_or_default())
    }

    #[test]
    fn an_option_that_there_is_not_is_told_those_that_there_are_before_a_command_too() {
        for line in ["exec --empty", "exec --empty ls", "exec --profile p --empty -- ls", "--home run exec --empty"] {
            let said = said(line);
            assert!(said.contains("unexpected argument '--empty'"), "{line}: {said}");
            for there in ["`volary exec` takes: ", "--profile <PROFILE>", "--lease <CAPABILITY", "--home <DIR>"] {
                assert!(said.contains(there), "{line}: {there}: {said}");
            }
        }
        // Behind the command's own name everything is the command's.
        let args = ["volary", "exec", "ls", "-l", "--empty"];
        assert!(
            matches!(Cli::try_parse_from(args).unwrap().command, crate::Command::Exec(it) if it.command.len() == 3)
        );
    }

    #[test]
    fn a_command_that_there_is_not_is_told_those_that_there_are() {
        let (all, vault) = (said("bogus"), said("vault status"));
        for there in ["`volary` has: demo, up, ", "sign-in"] {
            assert!(all.contains(there), "{there}: {all}");
        }
        assert!(!all.contains("goldens"), "{all}");
        assert!(vault.contains("`volary vault` has: ") && vault.contains("rotate"), "{vault}");
    }

    #[test]
    fn what_is_no_number_is_told_that_it_is_to_be_one() {
        for line in ["replay r --turn nine", "explain r x", "up --port x", "allow r -1x"] {
            let said = said(line);
            assert!(
                said.contains("It takes a whole number.") || said.contains("unexpected argument"),
                "{line}: {said}"
            );
        }
        assert!(said("up --warm 9").contains("0..=8"));
    }
}
