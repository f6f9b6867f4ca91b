//! From paths to a configuration: read the files, put them together, check everything.
//!
//! Invariants:
//! - All problems are found in one go, as far as one does not hide another.
//! - Nothing is read but the files that were named, those that they name, and the variables that they and the
//!   settings name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hookwire_definitions::{DefinitionError, Definitions, Kind, Refused};
use hookwire_model::{EventRule, Webhook};

use crate::define;
use crate::problem::{Loading, Problem, Secrets, Source, nearest};
use crate::report::{Diagnostics, LoadError};
use crate::settings::{self, Overrides, Settings, Tables};
use crate::tree::{Content, Node, Span};
use crate::{json_tree, toml_tree};

/// A configuration that was checked.
#[derive(Debug)]
pub struct Config {
    /// How hookwire runs.
    pub settings: Settings,
    /// What it sends.
    pub definitions: Definitions,
    /// What is not wrong, and yet probably not meant.
    pub warnings: Diagnostics,
    /// Every file that it came from: configuration, secrets, tokens, certificates. Whoever reloads watches these.
    pub files: Vec<PathBuf>,
}

/// Loads a configuration: files and folders, the environment by way of `env`, and what flags have set.
/// Without paths there are no definitions, and the settings are those of environment, flags and defaults.
///
/// # Errors
/// [`LoadError`] if a path cannot be read, or with everything that is wrong.
pub fn load(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Config, LoadError> {
    load_and_look(paths, env, overrides, &mut |_, _, _, _, _| {})
}

/// Looks at what is loaded while the files' trees are there.
pub(crate) type Look<'l> =
    &'l mut dyn FnMut(&mut Loading<'_>, &Parts<'_>, &Tables<'_>, &Settings, &Definitions);

/// The same with a look at everything, which is taken if it is sound.
pub(crate) fn load_and_look(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
    look: Look<'_>,
) -> Result<Config, LoadError> {
    let (config, problems) = load_all(paths, env, overrides, Secrets::Needed, look)?;
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(LoadError::Invalid(problems)),
    }
}

/// Loads what is sound of a configuration, for previews and explanations: definitions with a problem keep
/// their places and show it. The problems come along.
///
/// # Errors
/// [`LoadError`] if a path cannot be read, a file is not of its format, or the settings are wrong.
pub fn load_sound(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<(Config, Diagnostics), LoadError> {
    sound(load_all(paths, env, overrides, Secrets::Needed, &mut |_, _, _, _, _| {})?)
}

/// The same for whoever only looks at a store or asks a server: secrets, tokens and certificates that cannot be read are
/// no problem, since they are the service's, and something stands in for them. Nothing may be signed or served with it.
///
/// # Errors
/// [`LoadError`] as for [`load_sound`].
pub fn load_to_look(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<(Config, Diagnostics), LoadError> {
    sound(load_all(paths, env, overrides, Secrets::StoodIn, &mut |_, _, _, _, _| {})?)
}

fn sound((config, problems): (Option<Config>, Diagnostics)) -> Result<(Config, Diagnostics), LoadError> {
    match config {
        Some(config) => Ok((config, problems)),
        None => Err(LoadError::Invalid(problems)),
    }
}

fn load_all(
    paths: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
    secrets: Secrets,
    look: Look<'_>,
) -> Result<(Option<Config>, Diagnostics), LoadError> {
    let sources = read_files(paths)?;
    let mut loading = Loading {
        sources: &sources,
        env,
        problems: Vec::new(),
        warnings: Vec::new(),
        files: Vec::new(),
        secrets,
    };
    let roots = parse(&mut loading);
    // A file that is not of its format hides what it defines; to complain that it is missing would mislead.
    if !loading.problems.is_empty() {
        return Ok((None, Diagnostics::new(loading.problems, &sources, &roots)));
    }
    let parts = Parts::gather(&mut loading, &roots);
    let (definitions, drafts) = compile(&mut loading, &parts);
    let tables = Tables::new(&mut loading, &parts.tables);
    let settings = settings::read(&mut loading, &tables, overrides);
    if loading.problems.is_empty() {
        warn_of_unused(&mut loading, &definitions, &drafts);
        if let Some(settings) = &settings {
            look(&mut loading, &parts, &tables, settings, &definitions);
        }
    }
    let Loading { problems, warnings, mut files, .. } = loading;
    files.extend(sources.iter().map(|source| source.path.clone()));
    files.sort();
    files.dedup();
    let config = settings.map(|settings| Config {
        settings,
        definitions,
        warnings: Diagnostics::new(warnings, &sources, &roots).into_warnings(),
        files: files.clone(),
    });
    Ok((config, Diagnostics::new(problems, &sources, &roots).with_files(files)))
}

/// The files that a configuration of these paths is read from: each file that is named, and of a folder those that
/// end in `.toml` or `.json` and are not hidden, by name.
///
/// # Errors
/// [`LoadError::Unreadable`] for a path that is not there, and for a folder that holds no such file.
pub fn config_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LoadError> {
    let mut files = Vec::new();
    for path in paths {
        let unreadable = |source| LoadError::Unreadable { path: path.clone(), source };
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(path).map_err(unreadable)? {
                let file = entry.map_err(unreadable)?.path();
                let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                if !hidden && format_of(&file).is_some() && !file.is_dir() {
                    found.push(file);
                }
            }
            if found.is_empty() {
                let message = "the folder holds no .toml and no .json file";
                return Err(unreadable(std::io::Error::other(message)));
            }
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn read_files(paths: &[PathBuf]) -> Result<Vec<Source>, LoadError> {
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Source { path, text }),
        Err(source) => Err(LoadError::Unreadable { path, source }),
    };
    config_files(paths)?.into_iter().map(read).collect()
}

#[derive(Clone, Copy)]
enum Format {
    Toml,
    Json,
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "toml" => Some(Format::Toml),
        "json" => Some(Format::Json),
        _ => None,
    }
}

fn parse(loading: &mut Loading<'_>) -> Vec<Node> {
    let mut roots = Vec::new();
    for (file, source) in loading.sources.iter().enumerate() {
        // A file that was named and has another ending is taken for TOML, which people write by hand.
        let named = format_of(&source.path);
        let (parsed, format) = match named.unwrap_or(Format::Toml) {
            Format::Toml => (toml_tree::parse(file, &source.text), "TOML"),
            Format::Json => (json_tree::parse(file, &source.text), "JSON"),
        };
        match parsed {
            Ok(root) => roots.push(root),
            Err(error) => {
                let message = format!("this is not valid {format}: {}", error.message.trim());
                let problem = Problem::new("", message).at(error.span);
                loading.add(match named {
                    Some(_) => problem,
                    None => problem.remedy(
                        "only TOML and JSON are read: let the name end in .toml or .json, as the text is written",
                    ),
                });
            }
        }
    }
    roots
}

/// What the files hold, put together.
#[derive(Default)]
pub(crate) struct Parts<'t> {
    pub(crate) webhooks: Vec<&'t Node>,
    pub(crate) rules: Vec<&'t Node>,
    /// The tables of settings, with their names.
    tables: Vec<(&'t str, &'t Node)>,
}

impl<'t> Parts<'t> {
    fn gather(loading: &mut Loading<'_>, roots: &'t [Node]) -> Self {
        let sections = settings::sections();
        let mut parts = Parts::default();
        for root in roots {
            let Content::Table(table) = &root.content else {
                loading.wrong_type("", root, "an object with `webhooks`, `event_rules` or settings");
                continue;
            };
            for (key, node) in &table.0 {
                match key.name.as_str() {
                    "webhooks" => parts.webhooks.extend(items(loading, "webhooks", node)),
                    "event_rules" => parts.rules.extend(items(loading, "event_rules", node)),
                    section if sections.contains(&section) => parts.tables.push((&key.name, node)),
                    // Editors use it to find the schema.
                    "$schema" => {}
                    name => {
                        let known = sections.iter().copied().chain(["webhooks", "event_rules"]);
                        let aliases = [
                            ("webhook", "webhooks"),
                            ("rules", "event_rules"),
                            ("event_rule", "event_rules"),
                        ];
                        let alias = aliases.iter().find(|(alias, _)| *alias == name).map(|(_, name)| *name);
                        let setting =
                            settings::SETTINGS.iter().find(|row| row.path.ends_with(&format!(".{name}")));
                        let remedy = match (alias.or_else(|| nearest(name, known.clone())), setting) {
                            (Some(meant), _) => format!("did you mean `{meant}`?"),
                            (None, Some(row)) => format!("did you mean `{}`?", row.path),
                            (None, None) => {
                                format!("a file has {}", known.collect::<Vec<_>>().join(", "))
                            }
                        };
                        loading.add(Problem::new(name, "unknown table").at(key.span).remedy(remedy));
                    }
                }
            }
        }
        parts
    }
}

/// The definitions of a list.
fn items<'t>(loading: &mut Loading<'_>, name: &str, node: &'t Node) -> &'t [Node] {
    match &node.content {
        Content::List(items) => items,
        _ => {
            let message = format!("needs a list of tables, has {}", node.kind());
            let remedy = format!("in TOML each one begins with [[{name}]], in two brackets");
            loading.add(Problem::new(name, message).at(node.span).remedy(remedy));
            &[]
        }
    }
}

/// The nodes of what was compiled, for places.
struct Drafts<'t> {
    webhooks: Vec<&'t Node>,
    rules: Vec<&'t Node>,
}

fn compile<'t>(loading: &mut Loading<'_>, parts: &Parts<'t>) -> (Definitions, Drafts<'t>) {
    let drafts = Drafts { webhooks: parts.webhooks.clone(), rules: parts.rules.clone() };
    let taken = twice(loading, "webhooks", &parts.webhooks);
    let mut webhooks: Vec<Result<Webhook, Refused>> = Vec::with_capacity(parts.webhooks.len());
    for (position, node) in parts.webhooks.iter().enumerate() {
        let (webhook, partial) = define::webhook(loading, position, node);
        if let Some(Err(errors)) = partial.map(|webhook| Definitions::compile(vec![webhook], Vec::new())) {
            let of_templates = errors.into_iter().filter(|error| matches!(error.kind, Kind::Template(_)));
            for error in of_templates {
                let problem = definition_problem(loading, node, error);
                loading.add(problem);
            }
        }
        webhooks.push(if taken[position] { Err(again(webhook)) } else { webhook });
    }
    let taken = twice(loading, "event_rules", &parts.rules);
    let mut rules: Vec<Result<EventRule, Refused>> = Vec::with_capacity(parts.rules.len());
    for (position, node) in parts.rules.iter().enumerate() {
        let rule = define::rule(loading, position, node);
        rules.push(if taken[position] { Err(again(rule)) } else { rule });
    }
    let (definitions, errors) = Definitions::compile_sound(webhooks, rules);
    for error in errors {
        let problem = definition_problem(loading, drafts.node(&error), error);
        loading.add(problem);
    }
    for error in definitions.disabled_problems() {
        let mut problem = definition_problem(loading, drafts.node(error), error.clone());
        problem.message = format!("{} (disabled, so it harms nothing yet)", problem.message);
        loading.warnings.push(problem);
    }
    (definitions, drafts)
}

impl<'t> Drafts<'t> {
    /// The definition that an error is about.
    fn node(&self, error: &DefinitionError) -> &'t Node {
        match error.place.list {
            "webhooks" => self.webhooks[error.place.position],
            _ => self.rules[error.place.position],
        }
    }
}

/// Tells names that are there twice, with both places. Says for each whether it is a second one.
fn twice(loading: &mut Loading<'_>, list: &str, nodes: &[&Node]) -> Vec<bool> {
    let mut first: HashMap<String, Span> = HashMap::new();
    let mut second = Vec::with_capacity(nodes.len());
    for node in nodes {
        let name = define::name_of(node);
        let span = node.at("/name").span;
        let before = if name.is_empty() { None } else { first.get(&name).copied() };
        second.push(before.is_some());
        match before {
            Some(before) => {
                let problem = Problem::new(define::path_of(list, 0, &name), "this name is there twice");
                let problem = problem.label(span, "here").label(before, "and here");
                loading.add(problem.remedy("names are unique, also over several files; rename one of them"));
            }
            None => _ = first.insert(name, span),
        }
    }
    second
}

/// A second definition of a name, which is told already: it only keeps its place.
fn again<T: Named>(definition: Result<T, Refused>) -> Refused {
    match definition {
        Ok(definition) => definition.refused(),
        Err(refused) => refused,
    }
}

trait Named {
    fn refused(self) -> Refused;
}

impl Named for Webhook {
    fn refused(self) -> Refused {
        let name = self.name.as_str().to_owned();
        let place = hookwire_definitions::Place::webhook(0, &*name);
        Refused { errors: vec![duplicate(place)], name }
    }
}

impl Named for EventRule {
    fn refused(self) -> Refused {
        let name = self.name.as_str().to_owned();
        let place = hookwire_definitions::Place::rule(0, &*name);
        Refused { errors: vec![duplicate(place)], name }
    }
}

fn duplicate(place: hookwire_definitions::Place) -> DefinitionError {
    let place = hookwire_definitions::Place { member: Some("name"), ..place };
    let message = "this name is there twice".to_owned();
    DefinitionError { place, kind: Kind::Duplicate, message, remedy: None, line: None, column: None }
}

/// An error of the definitions, with its place in the file.
fn definition_problem(loading: &Loading<'_>, definition: &Node, error: DefinitionError) -> Problem {
    let span = definition_span(loading, definition, &error);
    let path = match (error.line, error.column) {
        // The line of the file is shown; that of the member helps those who look at the template by itself.
        (Some(line), Some(column)) if line > 1 => format!("{}, line {line}, column {column}", error.place),
        _ => error.place.to_string(),
    };
    let problem = Problem::new(path, error.message);
    let problem = span.into_iter().fold(problem, Problem::at);
    error.remedy.into_iter().fold(problem, Problem::remedy)
}

fn definition_span(loading: &Loading<'_>, definition: &Node, error: &DefinitionError) -> Option<Span> {
    let Content::Table(table) = &definition.content else { return Some(definition.span) };
    let Some(member) = error.place.member else { return Some(definition.span) };
    let aliases: &[&str] =
        if member == "secret" { &["secret", "secret_env", "secret_file"] } else { &[member] };
    let Some(node) = aliases.iter().find_map(|name| table.get(name)) else { return Some(definition.span) };
    let Content::Text(text) = &node.content else { return Some(node.at(&error.place.pointer).span) };
    if !error.place.pointer.is_empty() {
        // A document written as JSON in a string: it was read before, so it can be read again.
        let document = json_tree::parse_within(text, &loading.text_map(node.span)).ok()?;
        return Some(document.at(&error.place.pointer).span);
    }
    match (error.line, error.column) {
        (Some(line), Some(column)) => Some(loading.text_map(node.span).place(line, column)),
        (Some(line), None) => Some(loading.text_map(node.span).place(line, 1)),
        _ => Some(node.span),
    }
}

/// Webhooks that no rule names: nothing is ever sent to them.
fn warn_of_unused(loading: &mut Loading<'_>, definitions: &Definitions, drafts: &Drafts<'_>) {
    let used: std::collections::HashSet<&str> =
        definitions.rules().flat_map(|rule| rule.webhooks.iter().map(|name| name.as_str())).collect();
    for node in &drafts.webhooks {
        let name = define::name_of(node);
        if !used.contains(name.as_str()) {
            let path = define::path_of("webhooks", 0, &name);
            let problem = Problem::new(path, "no event rule names this webhook").at(node.at("/name").span);
            loading.warnings.push(problem.remedy("add it to the `webhooks` of a rule"));
        }
    }
}
