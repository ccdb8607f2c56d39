-- Clear what verdicts made of an account.
--
-- ARGV  6 account
-- Answer  1 if there is such an account

local id = ARGV[6]
enter()
local account = read(K.accounts, id)
if not account then return leave() end
for _, pause in ipairs(account.pauses or {}) do
  call('ZREM', K.agenda, pause_name(id, pause.scope))
end
account.pauses, account.limit = nil, nil
retime(id, account)
write(K.accounts, id, account)
refile(id, account)
return leave(1)
