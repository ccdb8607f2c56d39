-- Put an account, or a scope of it, in a cooldown.
--
-- ARGV  9 account   10 length in ms   11 "=scope" or ""   12 reason   13 "1": worth waiting
-- Answer  1 if there is such an account

local id = ARGV[9]
enter()
local account = read(ACCOUNTS, id)
if not account then return leave() end
cool(id, account, {
  scope = optional(ARGV[11]), ends = now + tonumber(ARGV[10]), reason = ARGV[12],
  worth_waiting = ARGV[13] == '1',
})
return leave(1)
