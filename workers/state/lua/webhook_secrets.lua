-- requires once
-- Secrets that webhooks are signed with: one, or two while they are rotated, the newer first.
--
-- KEYS: hash that holds them
-- ARGV: 'show', 'rotate' or 'retire', new secret
-- Returns them, separated by commas. `show` makes the first one, `rotate` adds one, `retire` removes the older.

return once(function(action, new)
  local held = redis.call('HGET', KEYS[1], 'webhook_secrets') or new
  local newest = string.match(held, '[^,]+')
  local secrets = ({show = held, rotate = new .. ',' .. newest, retire = newest})[action]
  redis.call('HSET', KEYS[1], 'webhook_secrets', secrets)
  return secrets
end)
