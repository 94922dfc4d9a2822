-- Redis runs each file of workers/state/lua behind the libraries that its first line requires, see
-- workers/state/scripts.py. Luacheck reads the files one by one, so what the libraries define is listed here.
std = "lua51"
max_line_length = 120
read_globals = {
  "redis", "cmsgpack", "KEYS", "ARGV",
  -- common.lua
  "CANCELLED", "OPEN", "RUNNING", "TICKETS", "TOKENS", "tokens_of", "record_of", "account_of", "waiting_of", "line_of",
  "member_of", "turn_of_head", "enter", "enter_in_front", "leave", "put_token", "pop_tokens", "is_metered", "finish",
  -- common.lua (a function) and stamp.lua (a value)
  "stamp",
  -- once.lua
  "once",
  -- key_common.lua
  "DIGESTS", "PREFIX", "ids_of_name", "ids_of",
  -- stamp.lua
  "now",
}
for _, library in ipairs({ "common", "once", "key_common", "stamp" }) do
  files["workers/state/lua/" .. library .. ".lua"] = { ignore = { "211" } }  -- 211: unused in its own file
end
