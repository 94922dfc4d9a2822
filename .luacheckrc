-- Redis runs each file of workers/state/lua behind those that its first line requires, see workers/state/scripts.py.
-- Luacheck reads the files one by one, so what the required ones define is listed here.
std = "lua51"
max_line_length = 120
read_globals = {
  "redis", "cmsgpack", "KEYS", "ARGV",
  -- common.lua
  "CANCELLED", "OPEN", "RUNNING", "TICKETS", "VERSION", "COUNTS", "QUEUE_VERSION", "RECORD_VERSION", "record_key",
  "account_key", "waiting_key", "owner_queue_key", "wakeups_key", "wakeup_job_key", "member_of", "timestamp",
  "virtual_time", "enqueue", "requeue_front", "dequeue", "add_wakeup", "remove_wakeups", "is_metered", "finish",
  "tell_of_change",
  -- outbox.lua
  "WEBHOOKS", "FAILED_WEBHOOKS", "WEBHOOKS_CHANNEL", "message_key", "outbox_key", "put", "put_message", "add_webhook",
  -- once.lua
  "once",
  -- key_common.lua
  "DIGESTS", "PREFIX", "ids_of_name", "ids_of",
}
for _, required in ipairs({ "common", "once", "outbox", "key_common" }) do
  files["workers/state/lua/" .. required .. ".lua"] = { ignore = { "211" } }  -- 211: not used in its own file
end
