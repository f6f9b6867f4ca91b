//! The shapes of what the API takes and gives, for its description. Types of other crates have a twin here, which a test
//! holds against what the routes answer.
//!
//! Invariant: words of closed sets come from the types that have them, so that none is missing.

#![expect(dead_code, reason = "a twin is never made; only its shape counts")]

use std::borrow::Cow;

use hookwire_model::{DeadReason, DeliveryState, ErrorKind, OutcomeKind, WaitingReason};
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, AnyOfBuilder, KnownFormat, Object, ObjectBuilder, Schema,
    SchemaFormat, SchemaType, ToArray as _, Type,
};
use utoipa::openapi::{RefOr, Required};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::deliveries::PAGE;

/// Visible ASCII without a dot.
const EVENT_ID: &str = r"^[!-\-/-~]{1,128}$";
/// As `dlv_` and 26 digits of Crockford's base 32, of which the first has three bits.
const DELIVERY_ID: &str = "^dlv_[0-7][0-9a-hjkmnp-tv-z]{25}$";
const ENDPOINT_ID: &str = "^ep_[0-9a-f]{16}$";
/// No control characters, and no white space at either end.
const NAME: &str = r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f])?$";
const EVENT_NAME: &str = r"^[^\s\x00-\x1f\x7f-\x9f]+$";
const OBJECT_TYPE: &str = r"^[!-)+-\-/-~]+(\.[!-)+-\-/-~]+)+$";

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn nullable(of: Type) -> SchemaType {
    SchemaType::from_iter([of, Type::Null])
}

/// The words of a closed set.
fn words<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> Object {
    string().enum_values(Some(all.iter().map(|word| text(*word)))).build()
}

/// The words of a closed set, or null.
fn words_or_null<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> Object {
    let words = all.iter().map(|word| Value::from(text(*word))).chain([Value::Null]);
    ObjectBuilder::new().schema_type(nullable(Type::String)).enum_values(Some(words)).build()
}

fn pattern(pattern: &str) -> Object {
    string().pattern(Some(pattern)).build()
}

fn pattern_or_null(pattern: &str) -> Object {
    ObjectBuilder::new().schema_type(nullable(Type::String)).pattern(Some(pattern)).build()
}

fn event_id() -> Object {
    string().pattern(Some(EVENT_ID)).max_length(Some(128)).build()
}

pub(crate) fn delivery_id() -> Object {
    pattern(DELIVERY_ID)
}

fn endpoint_id() -> Object {
    pattern(ENDPOINT_ID)
}

fn endpoint_id_or_null() -> Object {
    pattern_or_null(ENDPOINT_ID)
}

fn name() -> Object {
    string().pattern(Some(NAME)).max_length(Some(200)).build()
}

fn store_name() -> Object {
    string().build()
}

pub(crate) fn states() -> Object {
    words(DeliveryState::ALL, DeliveryState::as_str)
}

fn waiting_reasons() -> Object {
    words_or_null(WaitingReason::ALL, WaitingReason::as_str)
}

fn dead_reasons() -> Object {
    words_or_null(DeadReason::ALL, DeadReason::as_str)
}

fn outcomes() -> Object {
    words(OutcomeKind::ALL, OutcomeKind::as_str)
}

fn error_kinds() -> Object {
    words(ErrorKind::ALL, ErrorKind::as_str)
}

fn event_states() -> Object {
    string().enum_values(Some(["queued", "leased", "fanned_out"])).build()
}

fn time() -> Object {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

fn time_or_null() -> Object {
    ObjectBuilder::new()
        .schema_type(nullable(Type::String))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
}

fn event_name() -> Object {
    string().pattern(Some(EVENT_NAME)).max_length(Some(128)).build()
}

fn object_type() -> Object {
    string().pattern(Some(OBJECT_TYPE)).max_length(Some(200)).build()
}

fn any_object() -> Object {
    ObjectBuilder::new().schema_type(Type::Object).build()
}

fn object_or_null() -> Object {
    ObjectBuilder::new().schema_type(nullable(Type::Object)).build()
}

fn limit() -> Object {
    let integer = ObjectBuilder::new().schema_type(Type::Integer);
    integer.minimum(Some(1)).maximum(Some(PAGE.1)).default(Some(PAGE.0.into())).build()
}

fn parameter(at: ParameterIn, name: &str, description: &str, schema: Object) -> Parameter {
    let required = if at == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .parameter_in(at)
        .name(name)
        .description(Some(description))
        .required(required)
        .schema(Some(schema))
        .build()
}

/// Parameters, with what they mean.
macro_rules! parameters {
    ($($(#[$doc:meta])* $type:ident { $($at:ident $name:literal: $schema:ident, $description:literal;)+ })+) => {
        $(
            $(#[$doc])*
            pub(crate) struct $type;

            impl IntoParams for $type {
                fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                    vec![$(parameter(ParameterIn::$at, $name, $description, $schema())),+]
                }
            }
        )+
    };
}

parameters! {
    /// The event that a path names.
    EventParam {
        Path "id": event_id, "Its id.";
    }

    /// The delivery that a path names.
    DeliveryParam {
        Path "id": delivery_id, "Its id.";
    }

    /// The endpoint that a path names.
    EndpointParam {
        Path "id": endpoint_id, "Its id.";
    }

    /// The webhook that a path names.
    WebhookParam {
        Path "name": name, "Its name.";
    }

    /// A parameter that lists of dead letters do not have.
    StateParam {
        Query "state": states, "In this state.";
    }

    /// The parameters of every list.
    PageParams {
        Query "webhook": name, "To this webhook.";
        Query "rule": name, "Under this rule.";
        Query "endpoint": endpoint_id, "At this endpoint.";
        Query "event_id": event_id, "Of this event.";
        Query "limit": limit, "How many a page has.";
        Query "cursor": delivery_id, "`next_cursor` of the page before.";
    }

    /// The store that is meant.
    StoreParam {
        Query "store": store_name, "The URL of a store, without user and password.";
    }

    /// The rule to look at.
    RuleParam {
        Query "rule": name, "Only this rule.";
    }
}

/// Something that happened to an object. `model` is taken, too, if it is the part of `object_type` after the last dot.
#[derive(ToSchema)]
#[schema(as = Event, examples(json!({
    "event": "created", "object_type": "dcim.site", "username": "admin", "data": {"id": 7, "name": "Berlin"},
})))]
#[serde(deny_unknown_fields)]
pub(crate) struct EventTwin {
    /// What happened: `created`, `updated`, `deleted` or any other name of up to 128 bytes.
    #[schema(schema_with = event_name)]
    event: String,
    /// `app_label.model`
    #[schema(schema_with = object_type)]
    object_type: String,
    /// The object as it is now.
    #[schema(schema_with = any_object)]
    data: Value,
    /// Idempotency key: an id that was accepted within the de-duplication window changes nothing.
    #[schema(schema_with = event_id, required = false)]
    id: Option<String>,
    /// What rules match, where it differs from `event`.
    #[schema(schema_with = event_name, required = false)]
    event_type: Option<String>,
    /// Identity of the object; by default the text of `data.id`. Up to 256 bytes.
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    object_id: Option<String>,
    /// When it happened; now, if it is absent.
    #[schema(schema_with = time, required = false)]
    timestamp: Option<String>,
    /// Who did it.
    username: Option<String>,
    /// In which request.
    request_id: Option<String>,
    /// The request that led to it.
    #[schema(schema_with = any_object, required = false)]
    request: Option<Value>,
    /// The object before and after.
    #[schema(nullable = false)]
    snapshots: Option<SnapshotsTwin>,
    /// Whatever else templates may use.
    #[schema(schema_with = any_object, required = false)]
    context: Option<Value>,
}

/// The object before and after.
#[derive(ToSchema)]
#[schema(as = Snapshots)]
#[serde(deny_unknown_fields)]
struct SnapshotsTwin {
    #[schema(schema_with = object_or_null, required = false)]
    prechange: Option<Value>,
    #[schema(schema_with = object_or_null, required = false)]
    postchange: Option<Value>,
}

/// A CloudEvent 1.0 in JSON. Extensions may stand beside these attributes.
#[derive(ToSchema)]
#[schema(as = CloudEvent, examples(json!({
    "specversion": "1.0", "id": "A-1", "source": "/dcim", "type": "dcim.site.updated", "data": {"id": 7},
})))]
pub(crate) struct CloudEventTwin {
    #[schema(schema_with = specversion)]
    specversion: String,
    /// With `source` it identifies the event.
    #[schema(min_length = 1)]
    id: String,
    #[schema(min_length = 1)]
    source: String,
    /// Its last segment becomes `event`, the rest `object_type`.
    #[schema(schema_with = cloud_event_type)]
    r#type: String,
    /// Identity of the object; without one it is the text of `data.id`.
    #[schema(min_length = 1)]
    subject: Option<String>,
    #[schema(schema_with = time_or_null, required = false)]
    time: Option<String>,
    #[schema(min_length = 1)]
    datacontenttype: Option<String>,
    #[schema(min_length = 1)]
    dataschema: Option<String>,
    /// A JSON object; anything else becomes `data.value`.
    data: Option<Value>,
}

fn specversion() -> Object {
    string().enum_values(Some(["1.0"])).build()
}

fn cloud_event_type() -> Object {
    string().pattern(Some(r"^[!-)+-\-/-~]+(\.[!-)+-\-/-~]+){2,}$")).max_length(Some(200)).build()
}

/// A delivery: an event on its way to one webhook under one rule.
#[derive(ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryTwin {
    /// The same over all attempts; receivers see it as `webhook-id`.
    #[schema(schema_with = delivery_id)]
    id: String,
    #[schema(schema_with = event_id)]
    event_id: String,
    /// Null if the event cannot be read.
    #[schema(required)]
    event: Option<String>,
    /// Null if the event cannot be read.
    #[schema(required)]
    object_type: Option<String>,
    /// Null for an event that never reached fan-out.
    #[schema(required)]
    rule: Option<String>,
    /// Null for an event that never reached fan-out.
    #[schema(required)]
    webhook: Option<String>,
    /// Null before it was rendered.
    #[schema(schema_with = endpoint_id_or_null, required)]
    endpoint: Option<String>,
    #[schema(schema_with = states)]
    state: String,
    /// What a waiting delivery waits for.
    #[schema(schema_with = waiting_reasons, required)]
    waiting_reason: Option<String>,
    /// How many attempts were made, interrupted ones among them.
    attempts: u32,
    /// How many of them were cut off.
    interrupted: u32,
    #[schema(schema_with = time_or_null, required)]
    next_attempt_at: Option<String>,
    /// When its event was accepted.
    #[schema(schema_with = time)]
    created_at: String,
    #[schema(schema_with = time_or_null, required)]
    finished_at: Option<String>,
    #[schema(required)]
    last_status: Option<u16>,
    #[schema(required)]
    last_error: Option<AttemptErrorTwin>,
    /// Why it is a dead letter.
    #[schema(schema_with = dead_reasons, required)]
    dead_reason: Option<String>,
    /// All recorded attempts; left out of lists.
    #[schema(nullable = false)]
    attempt_log: Option<Vec<AttemptTwin>>,
}

/// What went wrong with an attempt.
#[derive(ToSchema)]
#[schema(as = AttemptError)]
struct AttemptErrorTwin {
    #[schema(schema_with = error_kinds)]
    kind: String,
    message: String,
}

/// One HTTP request for a delivery.
#[derive(ToSchema)]
#[schema(as = Attempt)]
struct AttemptTwin {
    /// From 1.
    number: u32,
    #[schema(schema_with = time)]
    started_at: String,
    duration_ms: f64,
    #[schema(schema_with = outcomes)]
    outcome: String,
    #[schema(required)]
    status: Option<u16>,
    #[schema(required)]
    error: Option<AttemptErrorTwin>,
    /// The address that was dialled, with its port.
    #[schema(required)]
    address: Option<String>,
    /// Redirects that were followed.
    hops: Vec<HopTwin>,
    timings: TimingsTwin,
    #[schema(required)]
    request: Option<SentTwin>,
    #[schema(required)]
    response: Option<ReceivedTwin>,
}

/// A redirect that was followed.
#[derive(ToSchema)]
#[schema(as = Hop)]
struct HopTwin {
    status: u16,
    url: String,
    #[schema(required)]
    address: Option<String>,
}

/// Where the time went; a phase that did not happen is absent.
#[derive(ToSchema)]
#[schema(as = Timings)]
struct TimingsTwin {
    #[schema(nullable = false)]
    resolve_ms: Option<f64>,
    #[schema(nullable = false)]
    connect_ms: Option<f64>,
    #[schema(nullable = false)]
    tls_ms: Option<f64>,
    #[schema(nullable = false)]
    head_ms: Option<f64>,
    #[schema(nullable = false)]
    body_ms: Option<f64>,
}

/// A request as it was sent, secrets masked.
#[derive(ToSchema)]
#[schema(as = SentRequest)]
struct SentTwin {
    method: String,
    url: String,
    /// Pairs of name and value.
    headers: Vec<[String; 2]>,
    body_bytes: u64,
    body_sha256: String,
    /// Null unless `history.bodies` is set.
    #[schema(required)]
    body_base64: Option<String>,
}

/// A response as it came.
#[derive(ToSchema)]
#[schema(as = Response)]
struct ReceivedTwin {
    status: u16,
    /// Pairs of name and value.
    headers: Vec<[String; 2]>,
    /// The beginning of the body.
    body_base64: String,
    /// Whether there was more.
    truncated: bool,
}

/// An event with its deliveries.
#[derive(ToSchema)]
#[schema(as = StoredEvent)]
pub(crate) struct StoredEventTwin {
    #[schema(schema_with = event_id)]
    id: String,
    /// Its number in its shard.
    sequence: u64,
    #[schema(schema_with = event_states)]
    state: String,
    #[schema(schema_with = time)]
    accepted_at: String,
    /// What was published, with its defaults; null if it cannot be read.
    #[schema(schema_with = object_or_null, required)]
    event: Option<Value>,
    deliveries: Vec<DeliveryTwin>,
}

/// Counts of a shard.
#[derive(ToSchema)]
#[schema(as = ShardStats)]
pub(crate) struct ShardStatsTwin {
    /// Events that wait for their fan-out.
    events_queued: u64,
    /// Events that a worker fans out.
    events_leased: u64,
    waiting: u64,
    running: u64,
    dead: u64,
    delivered: u64,
    cancelled: u64,
    superseded: u64,
    /// When the oldest event was accepted that is queued or has a waiting delivery.
    #[schema(schema_with = time_or_null, required)]
    oldest_pending_at: Option<String>,
    pending_bytes: u64,
    history_bytes: u64,
    /// How many event ids are remembered.
    dedup_ids: u64,
    /// How far back they are remembered.
    dedup_window_ms: u64,
}

/// Counts of every shard, and the state of the definitions.
#[derive(ToSchema)]
#[schema(as = Stats)]
pub(crate) struct StatsTwin {
    shards: Vec<ShardStatsTwin>,
    definitions: DefinitionsStateTwin,
}

/// The definitions in force.
#[derive(ToSchema)]
#[schema(as = DefinitionsState)]
struct DefinitionsStateTwin {
    rules: usize,
    webhooks: usize,
    /// Tells them from others, without their secrets.
    fingerprint: String,
    #[schema(schema_with = time)]
    loaded_at: String,
    /// How often they were replaced since the start.
    reloads: u64,
    /// The last attempt to replace them, if it failed.
    #[schema(required)]
    refused: Option<RefusedReloadTwin>,
}

/// A reload that left the definitions as they were.
#[derive(ToSchema)]
#[schema(as = RefusedReload)]
struct RefusedReloadTwin {
    #[schema(schema_with = time)]
    at: String,
    message: String,
}

/// What would become of an event under one rule and webhook: if it matches `request` or `error`, else `reason`.
#[derive(ToSchema)]
#[schema(as = Preview)]
pub(crate) struct PreviewTwin {
    rule: String,
    /// Null if the rule could not be read.
    #[schema(required)]
    webhook: Option<String>,
    matched: bool,
    #[schema(nullable = false)]
    request: Option<PreviewRequestTwin>,
    /// Why the request would not go out, although it can be made.
    #[schema(nullable = false)]
    held_back: Option<String>,
    #[schema(nullable = false)]
    error: Option<PreviewErrorTwin>,
    #[schema(schema_with = reasons, required = false)]
    reason: Option<String>,
    /// The evaluated condition.
    #[schema(nullable = false)]
    explain: Option<TreeTwin>,
}

fn reasons() -> Object {
    use hookwire_rules::Reason::{Condition, ConditionError, Disabled, EventType, ObjectType};
    words(&[Disabled, ObjectType, EventType, Condition, ConditionError], hookwire_rules::Reason::as_str)
}

/// A request that would be sent, secrets masked.
#[derive(ToSchema)]
#[schema(as = PreviewRequest)]
struct PreviewRequestTwin {
    method: String,
    url: String,
    /// Pairs of name and value.
    headers: Vec<[String; 2]>,
    body_base64: String,
    /// Null if the body is not UTF-8.
    #[schema(required)]
    body: Option<String>,
}

/// Why nothing can be sent.
#[derive(ToSchema)]
#[schema(as = PreviewError)]
struct PreviewErrorTwin {
    kind: String,
    /// The member of the definition.
    #[schema(required)]
    field: Option<String>,
    message: String,
    #[schema(required)]
    line: Option<usize>,
    #[schema(required)]
    column: Option<usize>,
}

/// One step of an evaluated condition: a set with its parts, or a test with what it saw.
#[derive(ToSchema)]
#[schema(as = ConditionTree)]
struct TreeTwin {
    /// `and`, `or`, `not`, or the operator of a test.
    op: String,
    #[schema(schema_with = tree_outcomes)]
    outcome: String,
    #[schema(nullable = false)]
    attr: Option<String>,
    #[schema(nullable = false)]
    path: Option<String>,
    value: Option<Value>,
    #[schema(nullable = false)]
    value_path: Option<String>,
    #[schema(nullable = false)]
    negate: Option<bool>,
    /// The value that stands at the path.
    actual: Option<Value>,
    compared: Option<Value>,
    before: Option<Value>,
    after: Option<Value>,
    #[schema(nullable = false)]
    error: Option<EvaluationErrorTwin>,
    #[schema(nullable = false, no_recursion)]
    conditions: Option<Vec<TreeTwin>>,
}

fn tree_outcomes() -> Object {
    string().enum_values(Some(["match", "no_match", "error", "skipped"])).build()
}

/// Why a condition could not be evaluated.
#[derive(ToSchema)]
#[schema(as = EvaluationError)]
struct EvaluationErrorTwin {
    #[schema(schema_with = evaluation_errors)]
    kind: String,
    path: String,
    message: String,
}

fn evaluation_errors() -> Object {
    let all = hookwire_rules::ConditionErrorKind::ALL;
    words(all, hookwire_rules::ConditionErrorKind::as_str)
}

/// Which deliveries to act on: a filter of one or more members, `ids`, or `all`.
pub(crate) struct ActTwin;

/// Which dead letters to act on: a filter of one or more members, `ids`, or `all`.
pub(crate) struct ActOnDeadTwin;

impl PartialSchema for ActTwin {
    fn schema() -> RefOr<Schema> {
        act("Which deliveries to act on: a filter of one or more members, `ids`, or `all`.", true)
    }
}

impl ToSchema for ActTwin {
    fn name() -> Cow<'static, str> {
        "Act".into()
    }
}

impl PartialSchema for ActOnDeadTwin {
    fn schema() -> RefOr<Schema> {
        act("Which dead letters to act on: a filter of one or more members, `ids`, or `all`.", false)
    }
}

impl ToSchema for ActOnDeadTwin {
    fn name() -> Cow<'static, str> {
        "ActOnDead".into()
    }
}

/// The three ways to say which deliveries are meant.
fn act(description: &str, with_state: bool) -> RefOr<Schema> {
    let boolean = || ObjectBuilder::new().schema_type(Type::Boolean);
    let way = |all: bool| {
        let dry_run = boolean().description(Some("Count, and change nothing."));
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .property("dry_run", dry_run)
            .property("all", boolean().enum_values(Some([all])))
    };
    let filters = [
        ("webhook", name()),
        ("rule", name()),
        ("endpoint", endpoint_id()),
        ("event_id", event_id()),
        ("state", states()),
    ];
    let filters = &filters[..if with_state { 5 } else { 4 }];
    let by_filter =
        filters.iter().fold(way(false), |object, (name, schema)| object.property(*name, schema.clone()));
    // At least one of them.
    let some = filters.iter().fold(AnyOfBuilder::new(), |any, (name, _)| {
        any.item(ObjectBuilder::new().schema_type(Type::Object).required(*name))
    });
    let by_ids = way(false).property("ids", delivery_id().to_array()).required("ids");
    AnyOfBuilder::new()
        .description(Some(description))
        .item(AllOfBuilder::new().item(by_filter).item(some))
        .item(by_ids)
        .item(way(true).required("all"))
        .into()
}

/// What is wrong with a request (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemTwin {
    /// The status of the answer.
    status: u16,
    /// What kind of problem, in a few words.
    title: String,
    /// This very problem, and what to do about it.
    detail: String,
    /// Each thing that is wrong with the body.
    #[schema(nullable = false)]
    errors: Option<Vec<ProblemPlaceTwin>>,
    /// The state of the delivery that cannot be changed.
    #[schema(schema_with = states, required = false)]
    state: Option<String>,
}

/// One thing that is wrong with a body.
#[derive(ToSchema)]
#[schema(as = ProblemPlace)]
struct ProblemPlaceTwin {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole body.
    pointer: String,
    /// What, and what to do about it.
    message: String,
}

/// An endpoint.
#[derive(ToSchema)]
#[schema(as = Endpoint)]
pub(crate) struct EndpointTwin {
    #[schema(schema_with = endpoint_id)]
    id: String,
    #[schema(schema_with = name)]
    webhook: String,
    /// Scheme, host and port.
    authority: String,
    /// `closed`: deliveries go out; `open`: it failed, and gets a probe now and then; `half_open`: a probe is on its way.
    #[schema(schema_with = endpoint_states)]
    state: String,
    /// Who paused it.
    #[schema(schema_with = pausers)]
    paused_by: Option<String>,
    #[schema(schema_with = time_or_null)]
    paused_since: Option<String>,
    /// Attempts per second that it is held to.
    #[schema(required)]
    rate: Option<f64>,
    /// Nothing goes out before then.
    #[schema(schema_with = time_or_null)]
    waits_until: Option<String>,
    /// Deliveries that wait for it.
    waiting: u64,
}

fn endpoint_states() -> Object {
    string().enum_values(Some(["closed", "open", "half_open", "paused"])).build()
}

fn pausers() -> Object {
    let words = ["person", "gone", "webhook"].map(Value::from).into_iter().chain([Value::Null]);
    ObjectBuilder::new().schema_type(nullable(Type::String)).enum_values(Some(words)).build()
}
