//! Compiling and rendering.
//!
//! Invariants
//! - A template is compiled once; rendering borrows it, so any number of threads may render it at once.
//! - Rendering leaves nothing behind: lists and dicts that a template changes are its own copies.

use std::borrow::Cow;
use std::fmt;

use minijinja::machinery::{CodeGenerator, Instructions, eval, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Output, State, Value};

use crate::environment::environment;
use crate::error::Error;
use crate::guard;
use crate::lower::lower;
use crate::options::Options;
use crate::plain::{self, Plain, Written};
use crate::print;
use crate::run::{Run, limit};
use crate::value::thaw;

/// A compiled template. Cheap to share; rendering takes `&self`.
pub struct Template {
    program: Source,
    env: Environment<'static>,
    output_bytes_max: usize,
    fuel: u64,
    mutates: bool,
}

self_cell::self_cell!(
    struct Source {
        owner: String,

        #[covariant]
        dependent: Program,
    }
);

struct Program<'a> {
    instructions: Instructions<'a>,
    blocks: std::collections::BTreeMap<&'a str, Instructions<'a>>,
    size_hint: usize,
    mutates: bool,
    plain: Option<plain::Body<'a>>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("source", &self.source()).finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What is no Jinja2, what Jinja2 can do and this crate refuses, unknown filters and tests, and sources beyond the
    /// limits.
    pub fn compile(source: &str, options: &Options) -> Result<Template, Error> {
        let source = normalized(source).into_owned();
        guard::check(&source, &options.limits)?;
        let program = Source::try_new(source, |source| compile(source))?;
        let mutates = program.borrow_dependent().mutates;
        Ok(Template {
            program,
            env: environment(options),
            output_bytes_max: options.limits.output_bytes,
            fuel: options.limits.fuel,
            mutates,
        })
    }

    /// The source, with line ends as Jinja2 reads them (`\n`) and without the last one.
    pub fn source(&self) -> &str {
        self.program.borrow_owner()
    }

    /// Renders with Python's printing and no escaping. `context` is best made by [`root`](crate::root).
    ///
    /// # Errors
    /// Whatever Python would raise, what this crate refuses, and reaching a limit.
    pub fn render(&self, context: &Value) -> Result<String, Error> {
        self.eval(&self.env, context, AutoEscape::None)
    }

    /// Renders, with each printed value going through `formatter`.
    ///
    /// Safe text, which is written as it is, is what `|safe`, `|e` and `|tojson` give, and also `set` blocks and the
    /// results of macros, in which every value went through the formatter already. `~`, `+` and `|join` give safe text
    /// as soon as one part is safe; the other parts go through the formatter then. Filters that change text (such as
    /// `|upper`) change what the formatter wrote too, where a macro or block is filtered.
    ///
    /// # Errors
    /// As [`render`](Template::render), and what `formatter` returns.
    pub fn render_with<F>(&self, context: &Value, formatter: F) -> Result<String, Error>
    where
        F: Fn(&Printed<'_>, &mut dyn fmt::Write) -> Result<(), minijinja::Error> + Send + Sync + 'static,
    {
        let mut env = self.env.clone();
        env.set_formatter(move |out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value| {
            let run = Run::of(state);
            formatter(&Printed { value, run: &run }, out)?;
            run.settle(state)
        });
        // Anything but `None` makes macros and blocks safe.
        self.eval(&env, context, AutoEscape::Custom("place".into()))
    }

    /// Renders by telling `write` one after the other what is written, if the template is plain: text, members of what
    /// `root` gives for a name, loops over lists, and conditions that ask for a member. That is several times faster.
    ///
    /// `None` if the template is not plain, if something in it is unknown or unusual, if it takes long, or if `write`
    /// gives up: what was written is of no use then, and the template is to be rendered in the usual way. If it is
    /// `Some`, the usual way would have written the same, as far as `write` writes values as the usual way does.
    pub fn render_plain<'c>(
        &self,
        root: impl Fn(&str) -> Option<Plain<'c>>,
        write: impl FnMut(Written<'_>) -> Option<()>,
    ) -> Option<()> {
        plain::render(self.program.borrow_dependent().plain.as_ref()?, root, write, self.fuel)
    }

    fn eval(&self, env: &Environment<'_>, context: &Value, escape: AutoEscape) -> Result<String, Error> {
        let source = self.program.borrow_owner();
        let program = self.program.borrow_dependent();
        let failed = |error| Error::from_engine(error, source);
        let context = if self.mutates {
            // The copy is not charged: its size is that of the context, which the embedder bounds.
            Cow::Owned(thaw(&Run::unlimited(), context).map_err(failed)?)
        } else {
            Cow::Borrowed(context)
        };
        let mut text = String::with_capacity(program.size_hint);
        eval(
            env,
            &program.instructions,
            context.into_owned(),
            &program.blocks,
            &mut make_string_output(&mut text),
            escape,
        )
        .map_err(failed)?;
        if text.len() > self.output_bytes_max {
            return Err(failed(limit(format!(
                "the rendered text has {} bytes, more than the limit of {}",
                text.len(),
                self.output_bytes_max
            ))));
        }
        Ok(text)
    }
}

/// One value on its way into the rendered text.
#[derive(Debug)]
pub struct Printed<'a> {
    value: &'a Value,
    run: &'a Run,
}

impl Printed<'_> {
    /// The value itself.
    pub fn value(&self) -> &Value {
        self.value
    }

    /// Whether it is to be written as it is: safe text, or nothing (an `if` without `else`, an unknown name).
    pub fn is_safe(&self) -> bool {
        self.value.is_safe() || self.value.is_undefined()
    }

    /// The text Python prints.
    ///
    /// # Errors
    /// What can't be printed, such as a generator.
    pub fn text(&self) -> Result<Cow<'_, str>, minijinja::Error> {
        match self.value.as_str() {
            Some(text) => Ok(Cow::Borrowed(text)),
            None if self.value.is_undefined() => Ok(Cow::Borrowed("")),
            None => print::str_of(self.run, self.value).map(Cow::Owned),
        }
    }

    /// Appends the value as compact JSON, with members in their order and numbers with their value.
    ///
    /// # Errors
    /// What is not JSON, such as a generator or an unknown value inside a list.
    pub fn json(&self, out: &mut String) -> Result<(), minijinja::Error> {
        crate::json::compact_into(self.run, self.value, out)
    }
}

/// The source as Jinja2's lexer reads it: all line ends are `\n`, and the last one does not count.
fn normalized(source: &str) -> Cow<'_, str> {
    let mut source = if source.contains('\r') {
        Cow::Owned(source.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(source)
    };
    if source.ends_with('\n') {
        source = match source {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..text.len() - 1]),
            Cow::Owned(mut text) => {
                text.pop();
                Cow::Owned(text)
            }
        };
    }
    source
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder()
        // The one newline that Jinja2 drops is gone already.
        .keep_trailing_newline(true)
        .build()
        .map_err(|error| Error::from_engine(error, ""))
}

fn compile(source: &str) -> Result<Program<'_>, Error> {
    let tree = parse(source, "<template>", syntax()?).map_err(|error| Error::from_engine(error, source))?;
    let lowered =
        lower(&tree).map_err(|refusal| Error::at(refusal.kind, refusal.message, source, refusal.range))?;
    let mut generator = CodeGenerator::new("<template>", source);
    generator.compile_stmt(&lowered.tree);
    let size_hint = generator.buffer_size_hint();
    let (instructions, blocks) = generator.finish();
    Ok(Program { instructions, blocks, size_hint, mutates: lowered.mutates, plain: plain::outline(&tree) })
}
