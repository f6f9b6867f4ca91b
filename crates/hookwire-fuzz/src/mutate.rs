//! A small mutator: the same seed gives the same inputs.

/// Makes inputs out of others.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

/// Pieces that make something of a template, a condition, a header or a URL.
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{{{",
    "}}}",
    "{{data.name}}",
    "{{ data }}",
    "{% if data %}",
    "{% endif %}",
    "{% for x in data.list %}",
    "{% endfor %}",
    "|tojson",
    "|safe",
    "|join(',')",
    "|e",
    "{{#each data.list}}",
    "{{/each}}",
    "{{#if data.yes}}",
    "{{else}}",
    "{{/if}}",
    "{{json data}}",
    "{% set x = [] %}",
    "{% macro m(a) %}",
    "{% endmacro %}",
    "-%}",
    "{%-",
    "loop.index",
    "range(9)",
    "\"",
    "'",
    "\\",
    "\\u0000",
    "\u{0}",
    "\n",
    "\r\n",
    "\u{85}",
    "\u{2028}",
    "ü",
    "🚀",
    ":",
    ": ",
    "X-A: 1",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "http://",
    "https://",
    "//",
    "@",
    "#",
    "?",
    "%",
    "%2e%2e/",
    "%zz",
    "[::1]",
    "127.0.0.1",
    ":65536",
    "xn--",
    "{\"and\": [",
    "{\"or\": [",
    "{\"not\": ",
    "]}",
    "\"op\": \"regex\"",
    "\"op\": \"in\"",
    "\"op\": \"changed\"",
    "\"negate\": true",
    "(?:a+)+$",
    "(?=",
    "(?P<n>",
    "{9,}",
    "null",
    "true",
    "[]",
    "{}",
    "-0",
    "1e999",
    "123456789012345678901234567890",
    "0.1",
    ",",
    "[",
    "{",
];

/// No input grows beyond this, in bytes.
const LEN_MAX: usize = 8 << 10;

impl Mutator {
    /// One for this seed.
    pub fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Mutator { state: seed | 1 }
    }

    /// A number below `limit`, by xorshift64*.
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let high = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % limit.max(1)
    }

    /// One of these.
    pub fn pick<'a>(&mut self, inputs: &'a [Vec<u8>]) -> &'a [u8] {
        &inputs[self.below(inputs.len())]
    }

    /// An input with one to four changes, some of them taken from another one.
    pub fn mutate(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = input.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(out.len() + 1);
            let end = (at + self.below(16)).min(out.len());
            match self.below(7) {
                0 => drop(out.drain(at..end)),
                1 => {
                    let again = out[at..end].repeat(1 + self.below(64));
                    out.splice(at..at, again);
                }
                2 | 3 => {
                    let piece = PIECES[self.below(PIECES.len())];
                    out.splice(at..at, piece.bytes());
                }
                4 => {
                    let piece = PIECES[self.below(PIECES.len())];
                    out.splice(at..end, piece.bytes());
                }
                5 => {
                    let from = self.below(other.len() + 1);
                    let to = (from + self.below(40)).min(other.len());
                    out.splice(at..end, other[from..to].iter().copied());
                }
                _ => {
                    if let Some(byte) = out.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
            out.truncate(LEN_MAX);
        }
        out
    }
}
