//! The scenarios, each measured in turn with its baselines.

mod crash;
mod dispatch;
mod latency;
mod memory;
mod noisy;
mod publish;
mod recovery;
mod scale;
mod throughput;

use hookwire_worker::{Exit, Failure};

use crate::Bench;
use crate::load::Flavour;
use crate::place::StoreKind;
use crate::report::Report;
use crate::sink::Answer;

/// Something to measure.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// In a few words.
    pub(crate) what: &'static str,
    /// Whether it is among those that a user gets without asking for it.
    by_default: bool,
    pub(crate) run: fn(Bench, &mut Report) -> anyhow::Result<()>,
}

/// All of them, in the order of the table.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "throughput-embedded-jinja",
        what: "the whole path on the embedded store, with a Jinja body",
        by_default: true,
        run: |bench, report| {
            let case = throughput::Case {
                store: StoreKind::Embedded,
                flavour: Flavour::Jinja,
                threads: None,
                bare: Some(0.37),
                working: Some(0.85),
                cpu: None,
            };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "throughput-redis-jinja",
        what: "the whole path on Redis, with a Jinja body; one worker thread",
        by_default: false,
        run: |bench, report| {
            let case = throughput::Case {
                bare: Some(0.40),
                working: Some(0.85),
                cpu: Some(2.6),
                ..throughput::Case::redis(Flavour::Jinja)
            };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "throughput-redis-jinja-2threads",
        what: "the same with the threads of the product",
        by_default: false,
        run: |bench, report| {
            let case = throughput::Case {
                threads: None,
                working: Some(0.80),
                ..throughput::Case::redis(Flavour::Jinja)
            };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "throughput-redis-standard",
        what: "the same with the signature of Standard Webhooks; one worker thread",
        by_default: false,
        run: |bench, report| {
            let case = throughput::Case { bare: Some(0.45), ..throughput::Case::redis(Flavour::Standard) };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "throughput-redis-default",
        what: "the same with the default body; one worker thread",
        by_default: false,
        run: |bench, report| {
            let case = throughput::Case {
                bare: Some(0.60),
                cpu: Some(1.8),
                ..throughput::Case::redis(Flavour::Default)
            };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "throughput-redis-handlebars",
        what: "the same with a Handlebars body; one worker thread",
        by_default: false,
        run: |bench, report| {
            let case = throughput::Case { bare: Some(0.35), ..throughput::Case::redis(Flavour::Handlebars) };
            throughput::run(bench, report, &case)
        },
    },
    Scenario {
        name: "dispatch",
        what: "requests by the worker's own pool, and nothing else",
        by_default: false,
        run: dispatch::run,
    },
    Scenario {
        name: "publish-redis",
        what: "publishing to Redis, a hundred events at a time",
        by_default: false,
        run: |bench, report| publish::run(bench, report, publish::Way::Library(StoreKind::Redis), 0.5),
    },
    Scenario {
        name: "publish-embedded",
        what: "publishing to the embedded store, a hundred events at a time",
        by_default: false,
        run: |bench, report| publish::run(bench, report, publish::Way::Library(StoreKind::Embedded), 0.6),
    },
    Scenario {
        name: "publish-http",
        what: "publishing as lines of JSON over HTTP, a hundred events at a time; the embedded store",
        by_default: false,
        run: |bench, report| publish::run(bench, report, publish::Way::Http, 0.5),
    },
    Scenario {
        name: "latency-redis",
        what: "from publishing to arrival at 200 events a second; Redis",
        by_default: false,
        run: |bench, report| latency::run(bench, report, StoreKind::Redis),
    },
    Scenario {
        name: "latency-embedded",
        what: "from publishing to arrival at 200 events a second; the embedded store",
        by_default: false,
        run: |bench, report| latency::run(bench, report, StoreKind::Embedded),
    },
    Scenario {
        name: "rules",
        what: "100,000 rules, of which one matches",
        by_default: false,
        run: scale::rules,
    },
    Scenario {
        name: "endpoints",
        what: "10,000 endpoints, each of its own webhook",
        by_default: false,
        run: scale::endpoints,
    },
    Scenario { name: "fanout", what: "one event to 100 webhooks", by_default: false, run: scale::fanout },
    Scenario {
        name: "backlog-redis",
        what: "1,000,000 deliveries that wait for others; Redis",
        by_default: false,
        run: |bench, report| scale::backlog(bench, report, StoreKind::Redis),
    },
    Scenario {
        name: "backlog-embedded",
        what: "1,000,000 deliveries that wait for others; the embedded store",
        by_default: false,
        run: |bench, report| scale::backlog(bench, report, StoreKind::Embedded),
    },
    Scenario {
        name: "memory",
        what: "what a worker takes with 1,000,000 waiting, and after many deliveries",
        by_default: false,
        run: memory::run,
    },
    Scenario {
        name: "noisy-silent-embedded",
        what: "99 good endpoints beside one that gets half of all events and never answers; the embedded store",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Embedded, Answer::Silent),
    },
    Scenario {
        name: "noisy-dripping-embedded",
        what: "99 good endpoints beside one that gets half of all events and drips its body; the embedded store",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Embedded, Answer::Dripping),
    },
    Scenario {
        name: "noisy-refusing-embedded",
        what: "99 good endpoints beside one that gets half of all events and refuses connections; the embedded store",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Embedded, Answer::Refusing),
    },
    Scenario {
        name: "noisy-slow-embedded",
        what: "99 good endpoints beside one that gets half of all events and answers 500 after a second; the embedded store",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Embedded, Answer::Slow),
    },
    Scenario {
        name: "noisy-silent-redis",
        what: "99 good endpoints beside one that gets half of all events and never answers; Redis",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Redis, Answer::Silent),
    },
    Scenario {
        name: "noisy-dripping-redis",
        what: "99 good endpoints beside one that gets half of all events and drips its body; Redis",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Redis, Answer::Dripping),
    },
    Scenario {
        name: "noisy-refusing-redis",
        what: "99 good endpoints beside one that gets half of all events and refuses connections; Redis",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Redis, Answer::Refusing),
    },
    Scenario {
        name: "noisy-slow-redis",
        what: "99 good endpoints beside one that gets half of all events and answers 500 after a second; Redis",
        by_default: false,
        run: |bench, report| noisy::run(bench, report, StoreKind::Redis, Answer::Slow),
    },
    Scenario {
        name: "crash-embedded",
        what: "the worker is killed under load, and another takes over; the embedded store",
        by_default: false,
        run: |bench, report| crash::run(bench, report, StoreKind::Embedded),
    },
    Scenario {
        name: "crash-redis",
        what: "the worker is killed under load, and another takes over; Redis",
        by_default: false,
        run: |bench, report| crash::run(bench, report, StoreKind::Redis),
    },
    Scenario {
        name: "recovery",
        what: "receivers with little room that were down while events piled up; Redis",
        by_default: false,
        run: recovery::run,
    },
];

/// Those whose names are these, or begin with them; without names those for everybody.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    if names.is_empty() {
        return Ok(ALL.iter().filter(|scenario| scenario.by_default).collect());
    }
    for name in names {
        if !ALL.iter().any(|scenario| scenario.name.starts_with(name.as_str())) {
            let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
            let message = format!("there is no scenario {name}; there are {}", known.join(", "));
            return Err(Failure::message(Exit::Usage, message));
        }
    }
    let named = |scenario: &&Scenario| {
        let exact = names.iter().any(|name| scenario.name == name);
        // A name that is one scenario's in full means that one only.
        let prefix = |name: &String| {
            scenario.name.starts_with(name.as_str()) && !ALL.iter().any(|other| other.name == name)
        };
        exact || names.iter().any(prefix)
    };
    Ok(ALL.iter().filter(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_chosen_by_name_or_beginning() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            chosen(&wanted).map(|found| found.iter().map(|scenario| scenario.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["throughput-redis-jinja"]).unwrap(), ["throughput-redis-jinja"]);
        assert_eq!(names(&["throughput-redis"]).unwrap().len(), 5);
        assert!(names(&[]).unwrap().contains(&"throughput-embedded-jinja"));
        let error = names(&["thruput"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no scenario thruput; there are throughput-"), "{error}");
    }

    #[test]
    fn no_two_have_the_same_name() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
