//! Patterns as Python's `re.match` understands them. Each line was checked against Python.

use hookwire_model::Condition;
use hookwire_rules::{CompiledCondition, Facts, Verdict};
use serde_json::json;

fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let document = json!({"attr": "x", "op": "regex", "value": pattern});
    let condition = Condition::parse(&document).unwrap().unwrap();
    let condition = CompiledCondition::compile(&condition).map_err(|error| error.message)?;
    match condition.evaluate(&Facts::of_documents(&json!({"x": text}), None)) {
        Verdict::Match => Ok(true),
        Verdict::NoMatch => Ok(false),
        Verdict::Error(error) => panic!("{pattern:?} on {text:?}: {error}"),
    }
}

#[test]
fn patterns_match_as_pythons_do() {
    for (pattern, text, expected) in [
        // At the start, not anywhere and not as a whole.
        ("b", "ab", false),
        ("a", "ab", true),
        ("", "", true),
        ("x|ab", "abc", true),
        // The end: before the last line feed, too.
        ("a$", "a\n", true),
        ("a$", "a\n\n", false),
        ("a\\Z", "a\n", false),
        ("a$\\n", "a\n", true),
        ("(?:a$|b)\\n", "a\n", true),
        ("(?m)a$\\nb", "a\nb", true),
        ("(?m)a\\n^b", "a\nb", true),
        ("a\\n^b", "a\nb", false),
        // Classes.
        ("\\d\\w\\s", "٣²\u{1c}", true),
        ("(?a)\\d", "٣", false),
        ("\\w", "\u{301}", false),
        ("\\W", "\u{301}", true),
        ("[\\W\\d]+$", "-1", true),
        ("[^\\W]", "a", true),
        ("[]a]", "]", true),
        ("[^]a]", "]", false),
        ("[a-]", "-", true),
        ("[&&a]", "&", true),
        ("[[:alpha:]]", "a", false),
        ("[\\b]", "\u{8}", true),
        ("[\\ud800a]", "a", true),
        ("[^\\ud800]", "a", true),
        ("[\\ud800]", "a", false),
        // Case.
        ("(?i)straße", "STRAßE", true),
        ("(?i)STRASSE", "straße", false),
        ("(?i)i", "İ", true),
        ("(?i)[a-z]", "ı", true),
        ("(?i)k", "\u{212a}", true),
        ("(?ia)k", "\u{212a}", false),
        ("(?ia)É", "é", false),
        ("(?i)[^a]", "A", false),
        ("a(?i:b)c", "aBc", true),
        ("a(?i:b)c", "aBC", false),
        ("(?i)a(?-i:b)", "AB", false),
        // Words.
        (".*\\bprod\\b", "a-prod-b", true),
        ("\\b", "", false),
        ("\\B", "", false),
        ("a\\Bé", "aé", true),
        // Repetition.
        ("a{,2}$", "aa", true),
        ("a{,2}$", "aaa", false),
        ("a{}", "a{}", true),
        ("a{x", "a{x", true),
        ("a++a", "aaa", false),
        ("(?>a+)a", "aaa", false),
        ("a+?a$", "aaa", true),
        ("(?=a)*b", "b", true),
        ("(?<=a)+b", "b", false),
        // Groups and references.
        ("(?P<q>['\"]).*(?P=q)", "'a'", true),
        ("(?P<q>['\"]).*(?P=q)", "'a\"", false),
        ("(a)(b)?(?(2)c|d)", "abc", true),
        ("(a)(b)?(?(2)c|d)", "ad", true),
        ("(a)(b)?(?(2)c|d)", "abd", false),
        ("(?:(x)|x)(?(1)y|k)", "xk", true),
        ("(?(1)a|b)(c)?", "b", true),
        ("(?i)(a)\\1", "aA", true),
        ("(a)|b\\1", "b", false),
        ("(?:(?=(a))a)+\\1?b", "aab", true),
        ("(?<!a)b", "b", true),
        ("a(?!b)", "ab", false),
        // Escapes.
        ("\\x41\\u00e9\\U0001F600\\101\\0?", "Aé😀A", true),
        ("\\N{DIGIT ONE}\\N{latin small letter e with acute}", "1é", true),
        ("\\.\\-\\ \\é", ".- é", true),
        // White space and comments.
        ("(?x) a b # c\n c", "abc", true),
        ("(?x)a[ ]b", "a b", true),
        ("a(?#note)b", "ab", true),
        ("(?x: a )b", "ab", true),
    ] {
        assert_eq!(matches(pattern, text), Ok(expected), "{pattern:?} on {text:?}");
    }
}

#[test]
fn what_python_refuses_is_refused_in_its_words() {
    for (pattern, message) in [
        ("*", "nothing to repeat at position 0"),
        ("^*", "nothing to repeat at position 1"),
        ("a**", "multiple repeat at position 2"),
        ("a{2,1}", "min repeat greater than max repeat at position 2"),
        ("(", "missing ), unterminated subpattern at position 0"),
        (")", "unbalanced parenthesis at position 0"),
        ("[a", "unterminated character set at position 0"),
        ("[z-a]", "bad character range z-a at position 1"),
        ("[a--b]", "bad character range a-- at position 1"),
        ("[\\d-a]", "bad character range \\d-a at position 1"),
        ("a\\", "bad escape (end of pattern) at position 1"),
        ("\\z", "bad escape \\z at position 0"),
        ("[\\A]", "bad escape \\A at position 1"),
        ("\\x1", "incomplete escape \\x1 at position 0"),
        ("\\1", "invalid group reference 1 at position 1"),
        ("(a\\1)", "cannot refer to an open group at position 2"),
        ("(?<name>a)", "unknown extension ?<n at position 1"),
        ("(?P<1>a)", "bad character in group name '1' at position 4"),
        ("(?P<a>x)(?P<a>y)", "redefinition of group name 'a' as group 2; was group 1 at position 12"),
        ("(?P=a)", "unknown group name 'a' at position 4"),
        // Python tells no position here.
        ("(?<=a+)b", "look-behind requires fixed-width pattern at position 0"),
        ("a(?i)b", "global flags not at the start of the expression at position 1"),
        ("(?L)a", "bad inline flags: cannot use 'L' flag with a str pattern at position 3"),
        ("(?au)a", "bad inline flags: flags 'a', 'u' and 'L' are incompatible at position 4"),
        ("(?i-i:a)", "bad inline flags: flag turned on and off at position 5"),
        ("(?(1)a|b|c)(d)", "conditional backref with more than two branches at position 8"),
        ("(?(2)a)(b)", "invalid group reference 2 at position 3"),
        ("(?(0)a)", "bad group number at position 3"),
        ("\\N{NO SUCH THING}", "undefined character name 'NO SUCH THING' at position 0"),
        ("\\777", "octal escape value \\777 outside of range 0-0o377 at position 0"),
    ] {
        let told = matches(pattern, "").unwrap_err();
        assert_eq!(told, format!("{pattern:?} is no pattern: {message}"), "{pattern:?}");
    }
}

#[test]
fn patterns_have_limits() {
    for (pattern, message) in [
        ("(".repeat(200), "groups nested more than 100 deep at position 101"),
        ("a".repeat(5000), "longer than 4096 characters at position 4096"),
        ("a{10001}".into(), "repeated more than 10000 times at position 1"),
        ("(?:a{1000}){1000}".into(), "too large when compiled at position 0"),
    ] {
        let told = matches(&pattern, "").unwrap_err();
        assert!(told.ends_with(message), "{told}");
    }
    assert_eq!(matches(&format!("{}a{}", "(".repeat(100), ")".repeat(100)), "a"), Ok(true));
}
