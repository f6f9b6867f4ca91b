//! stub
use axum::Json;
pub(crate) async fn show() -> Json<serde_json::Value> {
    Json(serde_json::Value::Null)
}
