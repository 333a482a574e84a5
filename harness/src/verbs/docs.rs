//! `meridian docs`: what is generated from the definition of the command line, so that it cannot
//! differ from it; and the samples.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, Subcommand, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::output;
use crate::policy::{SAMPLE, SAMPLE_EXPECTATIONS};

/// Generate shell completions, man pages and the list of verbs; write the sample policy
#[derive(Debug, Clone, Args)]
pub struct DocsArgs {
    /// What is generated.
    #[command(subcommand)]
    pub document: Document,
}

/// What is generated.
#[derive(Debug, Clone, Subcommand)]
pub enum Document {
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages, one per verb
    Man {
        /// Write the pages into this folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: PathBuf,
    },
    /// Write the sample policy, and what `meridian test` expects of it
    Samples {
        /// Write the files into this folder
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: PathBuf,
    },
    /// Print the verbs as a table in Markdown
    Verbs,
}

/// Prints or writes the document of `command`, the whole command line.
///
/// # Errors
/// If the document cannot be printed or written.
pub fn run(args: &DocsArgs, command: Command) -> anyhow::Result<ExitCode> {
    match &args.document {
        Document::Completions { shell } => output::print(&completions(*shell, command)?)?,
        Document::Man { out } => output::write_files(out, &man_pages(command)?)?,
        Document::Samples { out } => {
            let samples = [
                ("policy.yaml", SAMPLE),
                ("policy.test.yaml", SAMPLE_EXPECTATIONS),
            ];
            let samples = samples.map(|(name, text)| (name.to_owned(), text.to_owned()));
            output::write_files(out, &samples)?;
        }
        Document::Verbs => output::print(&verbs(command))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The completion script of `shell`.
///
/// # Errors
/// If it is not UTF-8.
pub fn completions(shell: Shell, mut command: Command) -> anyhow::Result<String> {
    let name = command.get_name().to_owned();
    // Into memory: clap_complete panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8(script).context("the completion script is not UTF-8")
}

/// A man page for the command and for each verb: the name of its file, and its text.
///
/// # Errors
/// If a page cannot be rendered.
pub fn man_pages(command: Command) -> anyhow::Result<Vec<(String, String)>> {
    let command = built(command);
    let version = command.get_version().unwrap_or_default();
    let source = format!("{} {version}", command.get_name());
    let page = |command: &Command| {
        let page = Man::new(command.clone()).source(&source).manual("Meridian");
        // No date, so that pages are reproducible. A blank one, because the crate leaves an empty
        // argument out, and the source would be read as the date.
        let page = page.date(" ");
        let mut text = Vec::new();
        page.render(&mut text)?;
        anyhow::Ok((page.get_filename(), String::from_utf8(text)?))
    };
    let with_verbs = std::iter::once(&command).chain(below(&command));
    with_verbs.map(page).collect()
}

/// The table of verbs in the README. A verb that has verbs itself is listed by those.
pub fn verbs(command: Command) -> String {
    let command = built(command);
    let row = |verb: &Command| {
        let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name());
        let name = name.split_once(' ').map_or(name, |(_, verb)| verb);
        let about = verb.get_about().map(ToString::to_string);
        let about = about.unwrap_or_default().replace('|', "\\|");
        format!("| `{name}` | {about} |\n")
    };
    let leaves = below(&command).filter(|verb| !verb.has_subcommands());
    let rows: String = leaves.map(row).collect();
    format!("| verb | what it does |\n|---|---|\n{rows}")
}

/// The command with its verbs' full names and derived options, but without the verb `help`, which
/// clap adds at every level.
fn built(command: Command) -> Command {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// Every verb below `command`, each before those below it.
fn below(command: &Command) -> Box<dyn Iterator<Item = &Command> + '_> {
    let verbs = command.get_subcommands();
    Box::new(verbs.flat_map(|verb| std::iter::once(verb).chain(below(verb))))
}
