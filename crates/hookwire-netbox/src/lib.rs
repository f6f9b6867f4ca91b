//! NetBox's webhooks and event rules become definitions, with a list of what differs.
