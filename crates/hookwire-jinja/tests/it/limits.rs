//! Whatever the template, compiling and rendering end: within the limits, without a panic, on a stack of 2 MiB.
//!
//! A stack overflow would end the test process, so each of these passing is the assertion.

use hookwire_jinja::{ErrorKind, Limits, Options};
use serde_json::json;

use crate::{LENIENT, render};

#[track_caller]
fn hits(kind: ErrorKind, template: &str) -> String {
    let error = render(template, &json!({"x": [1, 2, 3]}), &LENIENT).expect_err("a limit is reached");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

#[test]
fn deep_sources_are_refused_before_they_are_parsed() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("-", ""),
        ("not ", ""),
        ("{1:", "}"),
        ("x[", "]"),
        ("x(", ")"),
        ("1 if 1 else ", "1"),
    ] {
        for depth in [65, 1_000, 20_000] {
            let template = format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth));
            hits(ErrorKind::Limit, &template);
        }
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for i in x %}", "{% endfor %}"),
        ("{% set a %}", "{% endset %}"),
        ("{% with %}", "{% endwith %}"),
    ] {
        for depth in [65, 5_000] {
            hits(ErrorKind::Limit, &format!("{}x{}", open.repeat(depth), close.repeat(depth)));
        }
    }
    hits(ErrorKind::Limit, &format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(5_000)));
    let message = hits(ErrorKind::Limit, &format!("a\n{{{{ {}1 }}}}", "(".repeat(65)));
    assert!(message.starts_with("line 2, column "), "{message}");
}

#[test]
fn long_chains_are_refused_before_they_are_parsed() {
    for link in ["+ 1", "~ 1", ".a", "[0]", "|e", "is none", "and 1", "or 1", "* 1", "< 1", "in x", "()"] {
        for length in [130, 10_000] {
            let template = format!("{{{{ x {} }}}}", [link].repeat(length).join(" "));
            let error = render(&template, &json!({}), &LENIENT).expect_err("it is too long");
            assert!(matches!(error.kind(), ErrorKind::Limit | ErrorKind::Syntax), "{error}");
        }
    }
}

#[test]
fn what_is_just_within_the_limits_compiles_and_renders() {
    for (open, close, depth) in [
        ("(", ")", 62),
        ("[", "]", 62),
        ("-", "", 62),
        ("not ", "", 62),
        ("{1:", "}", 62),
        ("x[", "]", 41),
        ("x(", ")", 41),
        ("x.y(", ")", 31),
        ("(1+", ")", 41),
        ("1 if 0 else ", "", 31),
    ] {
        let template = format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth));
        // Some of these end in an error, such as calling a number; none in a limit.
        if let Err(error) = render(&template, &json!({"x": 1}), &LENIENT) {
            assert_ne!(error.kind(), ErrorKind::Limit, "{error}");
        }
    }
    let chain = format!("{{{{ 1{} }}}}", " + 1".repeat(125));
    assert_eq!(render(&chain, &json!({}), &LENIENT).as_deref(), Ok("126"));
    let blocks = format!("{}x{}", "{% if 1 %}".repeat(60), "{% endif %}".repeat(60));
    assert_eq!(render(&blocks, &json!({}), &LENIENT).as_deref(), Ok("x"));
    let loops = format!("{}x{}", "{% for i in [1] %}".repeat(60), "{% endfor %}".repeat(60));
    assert_eq!(render(&loops, &json!({}), &LENIENT).as_deref(), Ok("x"));
}

#[test]
fn a_wide_source_is_no_deep_one() {
    let items: Vec<String> = (0..5_000).map(|i| format!("{i} + 1")).collect();
    let template = format!("{{{{ [{}]|length }}}}", items.join(", "));
    assert_eq!(render(&template, &json!({}), &LENIENT).as_deref(), Ok("5000"));
    assert_eq!(render(&"{{ 1 }}".repeat(5_000), &json!({}), &LENIENT).as_deref(), Ok(&*"1".repeat(5_000)));
}

#[test]
fn sources_have_a_size() {
    let options = Options { limits: Limits { source_bytes: 10, ..Limits::default() }, ..LENIENT };
    assert_eq!(render("0123456789", &json!({}), &options).as_deref(), Ok("0123456789"));
    let error = render("01234567890", &json!({}), &options).expect_err("eleven bytes");
    assert_eq!(error.to_string(), "the template has 11 bytes, more than the limit of 10");
    hits(ErrorKind::Limit, &"\n".repeat(70_000));
}

#[test]
fn the_output_has_a_size() {
    let options = Options { limits: Limits { output_bytes: 10, ..Limits::default() }, ..LENIENT };
    assert_eq!(render("{{ 'x' * 10 }}", &json!({}), &options).as_deref(), Ok("xxxxxxxxxx"));
    let error = render("{{ 'x' * 11 }}", &json!({}), &options).expect_err("eleven bytes");
    assert_eq!(error.kind(), ErrorKind::Limit);
    let error = render("0123456789x", &json!({}), &options).expect_err("eleven bytes");
    assert_eq!(error.message(), "the rendered text has 11 bytes, more than the limit of 10");
}

#[test]
fn macros_that_call_themselves_end() {
    hits_recursion("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    hits_recursion("{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}");
    hits_recursion("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}");
    hits_recursion(
        "{% macro m() %}{{ caller() }}{% call m() %}x{% endcall %}{% endmacro %}{% call m() %}x{% endcall %}",
    );
    hits_recursion(
        "{% macro m() %}{% for i in [1] %}{% set q %}{{ m() }}{% endset %}{% endfor %}{% endmacro %}{{ m() }}",
    );
    hits_recursion("{% for i in [[1]] recursive %}{{ loop([i]) }}{% endfor %}");
    hits_recursion(
        "{% macro m() %}{{ [1]|map('string')|map('upper')|join }}{{ m() }}{% endmacro %}{{ m() }}",
    );
}

#[track_caller]
fn hits_recursion(template: &str) {
    let deepest = Options { limits: Limits { recursion: usize::MAX, ..Limits::default() }, ..LENIENT };
    for options in [LENIENT, deepest] {
        let error = render(template, &json!({}), &options).expect_err("it never ends");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }
}

#[test]
fn loops_in_loops_run_out_of_steps() {
    let message = hits(
        ErrorKind::Limit,
        "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}",
    );
    assert!(message.contains("too many steps"), "{message}");
    hits(ErrorKind::Limit, "{% set l = [1] %}{% for i in l %}{{ l.append(i) }}{% endfor %}");
}

#[test]
fn nothing_large_is_made_from_something_small() {
    for template in [
        "{{ 'x' * 10**9 }}",
        "{{ 'x' * 10**30 }}",
        "{{ 10**9 * 'x' }}",
        "{{ [1] * 10**9 }}",
        "{{ (1,) * 10**9 }}",
        "{{ 'a'|center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a'.zfill(10**9) }}",
        "{{ '\t'.expandtabs(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%.70000f' % 1 }}{{ '{:.70000}'.format(1.5) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.5) }}",
        "{{ '{:{}}'.format(1, 10**9) }}",
        "{{ 'a\nb'|indent(10**9) }}",
        "{{ [1]|tojson(10**9) }}",
        "{{ [1]|batch(10**9, 1)|list }}",
        "{{ [1]|slice(10**9)|list }}",
        "{{ ('a' * 10**6)|replace('a', 'b' * 10**6) }}",
        "{{ ('a' * 10**6)|replace('', 'b' * 10**6) }}",
        "{{ ('a' * 10**5)|indent|wordwrap(1, wrapstring='x' * 10**6) }}",
        "{{ ('x' * 10**6).join('a' * 10**6) }}",
        "{{ ('a' * 10**6)|join('x' * 10**6) }}",
        "{{ range(10**9) }}",
        "{% set s = 'x' * 10**6 %}{% for i in range(100000) %}{{ s }}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    ] {
        hits(ErrorKind::Limit, template);
    }
}

#[test]
fn what_a_filter_makes_is_paid_for_piece_by_piece() {
    let options = Options { limits: Limits { fuel: 20_000, ..Limits::default() }, ..LENIENT };
    for template in ["{{ ('x' * 50000)|wordwrap(1)|length }}", "{{ ('x ' * 50000)|wordwrap(1)|length }}"] {
        let error = render(template, &json!({}), &options).expect_err(template);
        assert_eq!(error.kind(), ErrorKind::Limit, "{template}: {error}");
    }
    // A word of any length is cut in one go through it.
    let whole = render("{{ ('x' * 1000000)|wordwrap(1)|length }}", &json!({}), &LENIENT);
    assert_eq!(whole.as_deref(), Ok("1999999"));
    let blanks = "{{ ('a ' ~ '\u{a0}' * 100000 ~ 'x' ~ '\u{a0}' * 100000)|wordwrap(1)|length }}";
    assert_eq!(render(blanks, &json!({}), &LENIENT).as_deref(), Ok("3"));
}

#[test]
fn long_text_is_paid_for_each_time_it_is_looked_at() {
    let options = Options { limits: Limits { fuel: 100_000, ..Limits::default() }, ..LENIENT };
    for step in [
        "{% set d = {x: 1} %}",
        "{% set d = {x.encode(): 1} %}",
        "{% set d = {(x, 1): 1} %}",
        "{% set d = {big: 1} %}",
        "{% set l = [x]|unique|list %}",
        "{% set l = [x]|sort %}",
        "{% set l = [x]|groupby('0') %}",
        "{% set found = x is in d %}",
        "{% set found = x in d %}",
        "{% set found = d[x] %}",
        "{% set found = d.get(x) %}",
        "{% set same = x.encode() == b %}",
        "{% set same = big == big %}",
        "{% set same = range(30000) == range(30000) %}",
        "{% set same = loop.changed(x) %}",
        "{% set same = loop.changed([{'a': x}]) %}",
        "{% set same = loop.changed(range(30000)) %}",
        "{% set n = x|length %}",
    ] {
        let template = format!(
            "{{% set d = {{'a': 1}} %}}{{% set x = 'x' * 30000 %}}{{% set b = x.encode() %}}\
             {{% for i in range(1000) %}}{step}{{% endfor %}}"
        );
        let big = serde_json::from_str(&"1".repeat(30_000)).expect("a number");
        let context = json!({"big": serde_json::Value::Number(big)});
        let error = render(&template, &context, &options).expect_err(step);
        assert_eq!(error.kind(), ErrorKind::Limit, "{step}: {error}");
    }
}

#[test]
fn values_that_share_their_parts_are_not_walked_for_ever() {
    // Each round doubles what printing, comparing or hashing would visit, while memory grows by one list.
    let grow = |step: &str, last: &str| {
        format!(
            "{{% set ns = namespace(s=(1,)) %}}{{% for i in range(140) %}}{{% set ns.s = {step} %}}{{% endfor %}}{last}"
        )
    };
    for last in [
        "{{ ns.s }}",
        "{{ ns.s == ns.s }}",
        "{{ ns.s|tojson }}",
        "{{ ns.s < ns.s }}",
        "{{ {ns.s: 1} }}",
        "{{ [ns.s]|unique|list }}",
        "{{ ns.s|string|length }}",
        "{{ '%s' % [ns.s] }}",
        "{{ ns.s ~ '' }}",
        "{{ ns.s in [ns.s] }}",
        "{{ ns.s|pprint }}",
        "{{ [[ns.s], [ns.s]]|sort }}",
    ] {
        let options = Options { limits: Limits { fuel: 20_000, ..Limits::default() }, ..LENIENT };
        let error = render(&grow("(ns.s, ns.s)", last), &json!({}), &options).expect_err(last);
        assert_eq!(error.kind(), ErrorKind::Limit, "{last}: {error}");
    }
}

#[test]
fn values_nest_only_so_deep() {
    for step in [
        "[ns.s]",
        "(ns.s,)",
        "{'a': ns.s}",
        "[ns.s]|map('list')",
        "cycler(ns.s)",
        "{'a': ns.s}.items()",
        "[ns.s].append",
        "dict(a=ns.s)",
    ] {
        let template = format!(
            "{{% set ns = namespace(s=1) %}}{{% for i in range(100000) %}}{{% set ns.s = {step} %}}{{% endfor %}}"
        );
        let error = render(&template, &json!({}), &LENIENT).expect_err("it nests too deep");
        assert!(
            matches!(error.kind(), ErrorKind::Limit | ErrorKind::Runtime | ErrorKind::Unsupported),
            "{error}"
        );
    }
    // Built from the outside in, each list is empty when it goes into the one before.
    hits(
        ErrorKind::Limit,
        "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set n = [] %}{{ ns.s.append(n) or '' }}{% set ns.s = n %}{% endfor %}",
    );
    hits(
        ErrorKind::Limit,
        "{% set ns = namespace(s={}) %}{% for i in range(100000) %}{% set n = {} %}{{ ns.s.update(a=n) or '' }}{% set ns.s = n %}{% endfor %}",
    );
}

#[test]
fn nothing_holds_itself() {
    for template in [
        "{% set a = [] %}{{ a.append(a) }}",
        "{% set a = [] %}{% set b = [a] %}{{ a.append(b) }}",
        "{% set a = {} %}{{ a.update(x=a) }}",
        "{% set a = [] %}{{ a.append((1, {'x': a})) }}",
        "{% set a = [] %}{{ a.append(a.append) }}",
        "{% set a = [] %}{% set c = cycler(a) %}{{ a.append(c) }}",
        "{% set a = {} %}{{ a.setdefault('x', a.items()) }}",
        "{% set a = [1] %}{{ a.extend([a, a]) }}",
        "{% set a = [1] %}{{ a.insert(0, a) }}",
    ] {
        hits(ErrorKind::Limit, template);
    }
    let error =
        render("{% set n = namespace() %}{% set n.x = [n] %}", &json!({}), &LENIENT).expect_err("a cycle");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error =
        render("{% set n = namespace() %}{% set n.x = n %}", &json!({}), &LENIENT).expect_err("a cycle");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn odd_calls_do_not_panic() {
    for template in [
        "{% for i in x %}{{ loop.cycle() }}{% endfor %}",
        "{% for i in x %}{{ loop.changed() }}{% endfor %}",
        "{{ cycler() }}",
        "{{ 'a'.center(-9223372036854775808) }}",
        "{{ x[9223372036854775807] }}{{ x[-9223372036854775808] }}",
        "{{ x[::-9223372036854775808] }}{{ x[9223372036854775807:] }}",
        "{{ -170141183460469231731687303715884105728 }}",
        "{{ (-170141183460469231731687303715884105727 - 1)|abs }}",
        "{{ (-170141183460469231731687303715884105727 - 1) // -1 }}",
        "{{ (-170141183460469231731687303715884105727 - 1) % -1 }}",
        "{{ 1.5|round(10**18) }}{{ 15|round(-10**18) }}{{ 1.5|round(-10**18) }}",
        "{{ 1e308|round(-308) }}{{ 1|round(400, 'ceil') }}",
        "{{ range(-9223372036854775808, 9223372036854775807, 9223372036854775807)|list }}",
        "{{ range(9223372036854775807, -9223372036854775808, -9223372036854775807)|list }}",
        "{{ 'é'|truncate(1, true, '', 0) }}{{ 'éé'[:1] }}{{ 'éé'.find('é', 1) }}",
        "{{ '%' }}{{ '%' % () }}",
        "{{ '%(' % {} }}",
        "{{ '{' .format() }}",
        "{{ '{0[}'.format(1) }}",
        "{{ '{!}'.format(1) }}",
        "{{ '{:\u{e9}<5}'.format(1) }}",
        "{{ 0 ** 0 }}{{ 0.0 ** 0 }}{{ 0 ** -1 }}",
        "{{ '&#'|striptags }}{{ '&'|striptags }}{{ '<'|striptags }}{{ '&#xffffffff;'|striptags }}",
    ] {
        // Some succeed and some fail, none may panic.
        let _ = render(template, &json!({"x": [1, 2, 3]}), &LENIENT);
    }
}

#[test]
fn the_context_is_never_changed() {
    let json = json!({"x": [3, 1], "d": {"a": {"b": []}}});
    let template =
        "{{ x.sort() }}{{ x }}{{ d.a.b.append(1) }}{{ d.update(c=2) }}{{ d }}{{ d.clear() }}{{ d }}";
    let compiled = hookwire_jinja::Template::compile(template, &LENIENT).expect("it compiles");
    let context = crate::context(&json);
    let expected = "None[1, 3]NoneNone{'a': {'b': [1]}, 'c': 2}None{}";
    assert_eq!(compiled.render(&context).as_deref(), Ok(expected));
    // The second rendering begins where the first began.
    assert_eq!(compiled.render(&context).as_deref(), Ok(expected));
}
