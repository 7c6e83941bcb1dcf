"""What prompt injections say in English: orders against orders, questions for the prompt, notes to the assistant."""

from typing import Final

from capstan_gateway.guards.attacks.pattern import Pattern, upto, words

_UNDO: Final = words(
    "ignor(?:e|es|ing)", "disregard(?:ing)?", "forget", "neglect", "overlook", "override", "overrule", "bypass", "discard",
    "abandon", "dismiss", "nullify", "cancel", "set aside", "pay no (?:attention|heed) to", "erase", "wipe", "supersede",
    "(?:do not|don't|dont|never|stop) (?:follow|following|obey|obeying|listen to|listening to|adhere to|comply with|use)",
)  # fmt: skip
_DISOBEY: Final = words(
    "ignor(?:e|es|ing)", "disregard(?:ing)?", "forget", "bypass", "pay no (?:attention|heed) to",
    "(?:do not|don't|dont|never|stop) (?:follow|following|obey|obeying|adhere to|comply with)",
)  # fmt: skip
_EARLIER: Final = words(
    "previous(?:ly)?", "prior", "above", "preceding", "earlier", "foregoing", "former", "initial", "original",
)  # fmt: skip
_FILLER: Final = (
    r"(?:(?:all|any|every|about|each|of|the|your|my|our|these|those|this|that|other|and|or|previous(?:ly)?|prior|above|preceding|"
    r"earlier|former|initial|original|system|safety|security|content|ethical|moral|existing|current|internal|openai|usual|"
    r"programmed|programming|default|built-in|base|given|stated|set|developer|pre-?set|predefined|strict|hidden|secret|"
    r"following|subsequent|future|possible|relevant|contrary|conflicting)\W+)"
)
_ORDERS: Final = words(
    "instructions?", "prompts?", "directions?", "directives?", "guidelines?", "commands?", "rules?", "orders",
    "training", "programming", "constraints?", "restrictions?", "guardrails?", "safeguards?", "safety (?:protocols?|measures?)",
    "protocols?", "limitations?", "polic(?:y|ies)", "system message", "assignments?", "tasks?",
)  # fmt: skip
_OWN_ORDERS: Final = words(
    "instructions?", "prompts?", "directives?", "guidelines?", "guardrails?", "safeguards?", "safety (?:protocols?|measures?)",
    "system message", "programming", "training", "content polic(?:y|ies)", "restrictions?", "rules", "ethics",
)  # fmt: skip
_SAID: Final = words(
    "texts?",
    "messages?",
    "content",
    "context",
    "conversations?",
    "inputs?",
    "information",
    "data",
    "words",
    "sentences?",
)
_SAY: Final = words(
    "reveal", "show", "print", "repeat", "display", "output", "tell", "give", "share", "expose", "leak", "dump", "recite",
    "return", "write", "list", "state", "provide", "quote", "echo", "copy", "summari[sz]e", "spell", "type", "paste", "send",
    "disclose", "divulge", "describe", "translate", "encode", "reproduce", "convert", "read", "see", "know", "view", "explain",
    "what (?:is|are|was|were)", "what's", "whats",
)  # fmt: skip
_ASK: Final = words(
    "reveal", "show", "print", "repeat", "display", "output", "tell", "give", "share", "expose", "leak", "recite", "write", "spell",
    "type", "send", "disclose", "divulge", "translate", "encode", "say", "grant me",
)  # fmt: skip
_RETELL: Final = words(
    "repeat", "recite", "replicate", "parrot", "read (?:out|back|again)?", "review", "remind me of", "print(?: out)?", "output", "echo", "restate",
    "reiterate", "copy", "reproduce", "return", "retell", "recap", "go over", "detail", "list", "show", "tell me", "write (?:out|down)",
)  # fmt: skip
_SECRET_TEXT: Final = words(
    "system (?:prompt|message|instructions?|directives?|commands?|configuration)", "(?:initial|original|hidden|secret|internal|"
    "developer|base|pre-?prompt|starting|first|custom|confidential|underlying|core|private) (?:prompts?|instructions?|directives?|"
    "guidelines?|rules|configuration|commands?)", "pre-?prompt", "meta-?prompt",
)  # fmt: skip
_ASSISTANT: Final = words(
    "ai(?: assistants?| models?| agents?| systems?)?", "llms?", "language models?", "assistants?", "chat-?bots?", "chat-?gpt",
    "gpt(?:-?[345])?", "claude", "gemini", "llama", "copilot", "bots?", "(?:virtual|digital) assistants?", "agents?",
)  # fmt: skip
_AI_ONLY: Final = words(
    "ai(?: assistants?| models?| agents?| systems?)?", "llms?", "(?:large )?language models?", "chat-?bots?", "chat-?gpt",
    "ai-powered (?:assistants?|tools?|systems?)",
)  # fmt: skip
_VALUABLES: Final = words(
    "api[ _-]?keys?", "passwords?", "credentials?", "secrets?", "(?:access|auth(?:entication)?|session|bearer) tokens?", "private keys?",
    "(?:chat|conversation|message|browsing) (?:history|logs?)", "(?:this|the|our|entire|whole|full) conversation", "system prompt",
    "contacts?", "cookies?", "environment variables?", "credit cards?", "(?:customer|user|personal|private|sensitive|confidential)"
    r" (?:data|information|details|records|e-?mails?|list)", "ssh keys?", "2fa codes?", "security codes?",
)  # fmt: skip

INJECTION: Final = (
    Pattern("override", rf"\b{_DISOBEY}\W+{_FILLER}*{_EARLIER}\W+{_FILLER}*{upto(1)}{_ORDERS}\b", 0.93, 0.5),
    Pattern("override", rf"\b{_UNDO}\W+{_FILLER}*{_EARLIER}\W+{_FILLER}*{_OWN_ORDERS}\b", 0.8, 0.5),
    Pattern("override", rf"\b{_DISOBEY}\W+{_FILLER}+{_OWN_ORDERS}\b", 0.72, 0.55, 0.9),
    Pattern("override", rf"\b{_UNDO}\W+(?:all\W+|any\W+|of\W+)*your\W+{_FILLER}*{_OWN_ORDERS}\b", 0.72, 0.55, 0.9),
    Pattern("override", rf"\b{_UNDO}\W+{_FILLER}*{_EARLIER}\W+{upto(1)}{_SAID}\b", 0.45, 0.2, 0.8),
    Pattern("override", rf"\b{words('ignore', 'disregard', 'forget')}\W+(?:all\W+|everything\W+)?(?:of\W+)?(?:the\W+)?{words('above', 'previous', 'preceding')}\W+{words('and', 'instead', 'say', 'print', 'do', 'just', 'output', 'respond')}\b", 0.9, 0.3),
    Pattern("override", rf"\b{words('ignore', 'disregard', 'forget', 'discard', 'erase')}\W+(?:about\W+)?{words('everything', 'all', 'anything', 'whatever', 'all that', 'what')}\W+{words('above', 'before', 'prior', 'previous(?:ly)?', 'you(?:r|ve|were)? (?:have )?(?:been )?(?:know|knew|learned|learnt|told|taught|instructed|read|heard|said|were (?:told|instructed|taught|given|trained))', '(?:i|we|they) (?:have )?(?:said|told|asked|wrote|gave)', 'that (?:was|came|i|you|has)', 'written above', 'said (?:before|above)', 'i (?:just )?(?:said|told|asked)')}", 0.75, 0.4, 0.9),
    Pattern("override", rf"\b{words('previous', 'prior', 'above', 'earlier', 'all', 'original', 'initial', 'system')}\W+{upto(1)}{_ORDERS}\W+(?:\w+\W+){{0,3}}{words('ignored?', 'disregarded?', 'void', 'null', 'obsolete', 'overridden', 'cancell?ed', 'invalid', 'no longer (?:valid|apply|applicable|relevant|in effect|needed)', 'superseded', 'suspended', 'revoked', 'lifted', 'deprecated', 'outdated')}\b", 0.7, 0.4, 0.9),
    Pattern("override", rf"\b{words('reset (?:yourself|your (?:memory|context|instructions|state))', 'wipe your memory', 'end of (?:the )?(?:system )?(?:prompt|instructions)', 'new (?:chat|conversation|session) (?:starts|begins) (?:here|now)')}\b", 0.4, 0.25, 0.6),
    Pattern("override", rf"\b{words('never ?mind', 'stop everything', 'scratch that', 'forget it', 'wait')}\b.{{0,40}}\b{words('ignore', 'disregard', 'instead', 'just (?:say|print|output|write)', 'new (?:task|instructions?)', 'print', 'say')}\b", 0.5, 0.2, 0.6),
    Pattern("new-task", rf"\b(?:your\W+)?{words('new', 'real', 'actual', 'true', 'updated', 'revised', 'only', 'next')}\W+{words('instructions?', 'tasks?', 'objectives?', 'directives?', 'orders?', 'mission', 'goal', 'role', 'job', 'system prompt', 'assignment')}\W{{0,3}}(?::|is\b|are\b|=|-|\n|below|follow)", 0.4, 0.3, 0.6),
    Pattern("new-task", rf"\b{words('henceforth', 'going forward', 'starting now', 'for the rest of (?:this|the|our) (?:conversation|chat|session)')}\W+{upto(2)}{words('you', 'answer', 'respond', 'reply', 'end', 'always', 'only', 'act', 'begin', 'every', 'ignore', 'speak')}\b", 0.3, 0.3, 0.6),
    Pattern("new-task", rf"\b{words('from now on', 'from this (?:point|moment) (?:on|forward|onwards?)')}\W+{upto(2)}{words('you', 'answer', 'respond', 'reply', 'end', 'always', 'only', 'act', 'begin', 'every', 'ignore', 'speak')}\b", 0.3, 0.3, 0.6, needs=("from now on", "from this point", "from this moment")),
    Pattern("new-task", rf"\b{words('instead', 'rather')}\W+(?:of\W+{upto(8)})?{words('say', 'print', 'output', 'write', 'reply', 'respond', 'answer', 'return', 'tell', 'do', 'follow', 'execute', 'perform')}\b", 0.25, 0.1, 0.45),
    Pattern("new-task", rf"\b{words('now (?:follow|execute|perform|obey|complete) (?:these|this|the following|my|only)', 'your instructions (?:have|are) (?:now )?(?:changed|been|as follows)', 'the (?:prior|previous|current|original) task (?:is|was|has been) (?:cancell?ed|complete[d]?|finished|over|done|aborted)')}\b", 0.35, 0.3, 0.6),
    Pattern("prompt-extraction", rf"\b{_SAY}\W+{upto(4)}(?:your|ur)\W+{upto(2)}{_SECRET_TEXT}\b", 0.85, 0.2),
    Pattern("prompt-extraction", rf"\b{_ASK}\W+{upto(3)}(?:the|this|full|entire|exact|complete|whole|all)\W+{upto(2)}{words('system (?:prompt|message|instructions?)', '(?:hidden|secret|initial|original|confidential|developer) (?:prompts?|instructions?|directives?|rules)', 'pre-?prompt', 'instructions you (?:were|have been) given', 'prompt (?:above|you (?:were|have been) given)')}\b", 0.6, 0.1, 0.75),
    Pattern("prompt-extraction", rf"\b{_SAY}\W+{upto(4)}your\W+{words('instructions?', 'prompt', 'directives?', 'guidelines', 'rules', 'programming', 'configuration', 'constraints', 'restrictions', 'context window', 'initialization')}\b", 0.5, 0.15),
    Pattern("prompt-extraction", rf"\bwhat(?:'?re|\W+are|\W+were|\W+is|\W+was)\W+your\W+{upto(2)}{words('instructions?', 'prompts?', 'directives?')}\W*(?:$|[?.!\n])", 0.66, 0.15),
    Pattern("prompt-extraction", rf"\b{words('rules', 'instructions?', 'directives?')}\W+(?:that\W+(?:are|were|is)\W+)?(?:written\W+|given\W+|stated\W+)?{words('above', 'before (?:this|my|me)')}\b", 0.4, 0.1, 0.4),
    Pattern("prompt-extraction", rf"\b{words('sentences?', 'words?', 'everything', 'lines?', 'part')}\W+{words('in', 'of', 'from')}\W+your\W+{upto(1)}{words('instructions?', 'prompt', 'directives?', 'context window')}\b", 0.7, 0.1, 0.5),
    Pattern("prompt-extraction", rf"\b{_SAY}\W+{upto(5)}{words('instructions?', 'prompts?', 'rules', 'guidelines?', 'directives?', 'text', 'words', 'message')}\W+(?:that\W+|which\W+)?(?:you\W+)?{words('(?:were|was|have been|had been|been|are) (?:given|told|provided|fed|instructed|programmed|shown|initiali[sz]ed)', 'received', 'started with', 'operate (?:under|by|on)')}\b", 0.7, 0.2),
    Pattern("prompt-extraction", rf"\b{words('repeat', 'print', 'output', 'copy', 'recite', 'return', 'echo', 'write', 'say', 'display', 'show', 'type', 'paste', 'reproduce')}\W+{upto(3)}{words('everything', 'all', 'words', 'conversation', 'what(?:ever)?', 'instructions?', 'prompt', 'rules')}\W+{upto(4)}{words('above', 'before (?:this|that|my|me|our|user)', 'previous to', 'prior to', 'preceding', 'came before', 'from the beginning', 'at the beginning of')}\b", 0.66, 0.1, 0.6),
    Pattern("prompt-extraction", rf"\b{words('repeat', 'print', 'output', 'copy', 'recite', 'return', 'echo', 'write', 'say', 'display', 'show', 'type', 'translate', 'summari[sz]e', 'paste', 'reproduce')}\W+{upto(3)}{words('text', 'sentences?', 'paragraphs?', 'content', 'lines?', 'messages?')}\W+{upto(4)}{words('above', 'before (?:this|the|that|my|me|our|it|user)', 'previous to', 'prior to', 'preceding', 'came before', 'from the beginning', 'at the beginning of')}\b", 0.3, 0.1, 0.5),
    Pattern("prompt-extraction", rf"\b{words('repeat(?:ing)?', 'print', 'output', 'copy', 'recite', 'begin(?:ning)?', 'starting', 'return')}\b.{{0,80}}['\"]\s*\b{words('you are', 'knowledge cutoff', 'system:?')}", 0.66, 0.1),
    Pattern("prompt-extraction", rf"\b{_RETELL}\W+{upto(3)}{words('previous', 'prior', 'initial', 'our', 'entire', 'preceding', 'earlier', 'above', 'original')}\W+{upto(2)}{words('sentences', 'lines', 'words', 'conversation', 'dialog(?:ue)?', 'instructions?', 'directives?', 'directions', 'commands?', 'prompts?', 'discussion', 'tokens', 'input', 'context window')}\b", 0.5, 0.1, 0.4),
    Pattern("prompt-extraction", rf"\b{words('sentences', 'lines', 'words', 'everything', 'text')}\W+{words('in', 'of', 'from')}\W+(?:our|your|the|this)\W+{upto(1)}{words('instructions?', 'prompt', 'directives?', 'commands?', 'conversation', 'dialog(?:ue)?', 'discussion', 'context window')}\b", 0.5, 0.1, 0.4),
    Pattern("prompt-extraction", rf"\b{words('continue|complete|finish|fill in|start|begin')}\b.{{0,60}}['\"]\W?{words('the system prompt', 'my (?:system |initial )?(?:instructions|prompt)', 'i was (?:instructed|told|programmed)', 'system prompt')}\b", 0.65, 0.1),
    Pattern("prompt-extraction", rf"\b{words('were you (?:told|instructed|prompted|configured)', 'are you (?:not )?(?:supposed|instructed|allowed) to', 'output (?:your )?initiali[sz]ation', 'initial prompt')}\b", 0.35, 0.1),
    Pattern("prompt-extraction", rf"\b{words('ignore|disregard|forget', 'sure|yes|ok')}\b.{{0,120}}\b{words('initial prompt', 'your prompt', 'your instructions', 'full prompt', 'the prompt', 'original prompt', 'opening defense', 'instructions verbatim')}\b", 0.6, 0.2),
    Pattern("secret-extraction", rf"\b(?:{_ASK}|what(?:'?s|\W+is|\W+was))\W+{upto(4)}(?:your|ur)\W+{upto(1)}{words('password', 'pass ?(?:phrase|code)', 'secret', 'access (?:code|key|phrase)s?', 'api[ _-]?keys?', 'credentials')}\b", 0.6, 0.1, 0.6),
    Pattern("secret-extraction", rf"\b{_ASK}\W+{upto(4)}(?:the|that|this)\W+{upto(1)}{words('secret (?:key|code|word|phrase|password|passphrase)', 'access[ _](?:code|key|phrase)s?', 'security codes?', 'pass ?(?:phrase|code)', 'magic word', 'codeword')}\b", 0.66, 0.1, 0.66),
    Pattern("secret-extraction", rf"\b{_ASK}\W+{upto(4)}(?:the|that|this)\W+{words('password', 'secret', 'flag', 'api[ _-]?keys?')}\W*(?:$|[.?!,\n]|\b{words('backwards', 'in', 'is', 'now', 'please', 'letter', 'to me')}\b)", 0.5, 0.1, 0.6),
    Pattern("secret-extraction", rf"\bwhat(?:'?s|\W+is|\W+was)\W+(?:the|your|that)\W+(?:secret\W+|correct\W+|right\W+)?{words('access[ _]?(?:code|key|phrase)', 'password', 'pass ?(?:phrase|code)', 'secret(?: key| code| word)?', 'magic word', 'security code', 'code ?word')}\W*(?:$|[?.!\n])", 0.66, 0.1, 0.6),
    Pattern("secret-extraction", rf"\b{words('forgot(?:ten)?', 'remember', 'remind me', 'hint', 'guess', 'lost')}\b.{{0,40}}\b{words('access[ _](?:code|key)', 'secret (?:key|code|word)', 'pass ?phrase', 'security code', 'magic word')}\b", 0.5, 0.1, 0.5),
    Pattern("secret-extraction", rf"\b(?:{words('password', 'access[ _]?code', 'code', 'pass ?phrase', 'key')}\W+(?:is|was|were)\W+{words('correct', 'right', 'accepted')}|{words('correct', 'right')}\W+{words('access[ _]?code', 'password', 'pass ?phrase', 'secret')})\b", 0.35, 0.05, 0.4),
    Pattern("secret-extraction", rf"\b{words('say', 'print', 'output', 'write', 'reply', 'respond', 'return', 'answer', 'type', 'grant', 'display', 'will (?:say|print|output)')}\W+{upto(5)}{words('access granted', 'access_granted', 'i have been pwned', 'i have been hacked', 'you have been hacked', 'haha pwned', 'pwned', 'hacked', 'owned', 'injected', 'jailbroken', 'lol', 'haxx?ed')}\b", 0.65, 0.1, 0.85),
    Pattern("secret-extraction", r"\baccess[ _]granted\b", 0.5, 0.0, 0.5),
    Pattern("goal-hijack", rf"\b{words('just', 'only', 'simply', 'always', 'must', 'then')}\W+{words('say', 'print', 'output', 'reply', 'respond', 'repeat')}\W+(?:only\W+|exactly\W+|with\W+|the\W+|word\W+|phrase\W+|following\W+|text\W+){{0,5}}['\"`]", 0.3, 0.1, 0.6),
    Pattern("goal-hijack", rf"\b{words('reply', 'respond', 'answer', 'output', 'print', 'say')}\W+(?:only\W+)?(?:with\W+)?(?:only\W+)?(?:the\W+)?[a-z0-9'\" _-]{{1,60}}{words('nothing (?:else|more)', 'and only that')}\b", 0.3, 0.1, 0.65),
    Pattern("role-claim", rf"\b{words('i am|i m|im|this is|it is|it s|as|speaking as')}\W+(?:now\W+)?(?:your|the|an?)\W+{upto(1)}{words('creator', 'developer', 'administrator', 'admin', 'owner', 'programmer', 'system administrator', 'openai (?:engineer|employee|developer|staff)', 'super ?user', 'master', 'root user', 'red team(?:er)?', 'authori[sz]ed (?:tester|user|personnel|auditor)')}\b", 0.3, 0.25, 0.5),
    Pattern("role-claim", rf"\b{words('system', 'admin(?:istrator)?', 'developer', 'security', 'priority', 'root', 'emergency', 'safety', 'operator')}[\W_]+{words('override', 'over-ride', 'bypass')}\b", 0.55, 0.35, 0.75),
    Pattern("role-claim", rf"\b{words('enter(?:ing)?', 'enable', 'activate', 'switch(?:ing)? to', 'initiate', 'engage', 'go into', 'you are (?:now )?in', 'put yourself in', 'boot into', 'unlock')}\W+{upto(2)}{words('(?:admin|administrator|debug|maintenance|sudo|god|root|developer|dev|unrestricted|unfiltered|test|diagnostic|override|jailbreak|uncensored|dan|superuser|privileged|opposite|evil|no-?filter) ?mode')}\b", 0.5, 0.6, 0.7),
    Pattern("role-claim", rf"(?:^|\n|\[|\(|<|\*|#)\W{{0,6}}{words('system', 'admin(?:istrator)?', 'developer', 'root', 'security team', 'operator')}\W?{words('message', 'prompt', 'note', 'notice', 'instructions?', 'alert', 'update', 'command', 'directive', 'override', 'announcement')}?\s*[\]>):*]+", 0.2, 0.1, 0.45),
    Pattern("role-claim", r"[\[(<#]\s?(?:system|admin|developer)[ _-]?(?:message|prompt|note|notice|instructions?|override|command|directive|alert)s?\s?[\])>:]", 0.4, 0.2, 0.7),
    Pattern("planted-order", rf"\b{words('instructions?', 'notes?', 'notice', 'messages?', 'attention', 'important', 'warning', 'reminder', 'directives?', 'commands?', 'orders', 'requests?', 'hint')}\W+(?:for|to)\W+(?:the\W+|any\W+|all\W+|our\W+|your\W+|this\W+|an?\W+)?{upto(1)}{_ASSISTANT}\b", 0.35, 0.1, 0.8),
    Pattern("planted-order", rf"\b(?:if|when|since|as|because)\W+(?:you\W+(?:are|'re)|you're|this is (?:being )?(?:read|processed|parsed) by)\W+(?:an?\W+|the\W+|any\W+)?{upto(1)}{_AI_ONLY}\b", 0.2, 0.1, 0.7),
    Pattern("planted-order", rf"\b{_AI_ONLY}\W+(?:that\W+(?:is|are)\W+|which\W+(?:is|are)\W+|who\W+)?{words('reading', 'processing', 'summari[sz]ing', 'parsing', 'analy[sz]ing', 'reviewing', 'handling', 'reads?', 'process(?:es)?', 'encountering', 'viewing')}\W+(?:this|the|these|my|that)\b", 0.3, 0.1, 0.8),
    Pattern("planted-order", rf"(?:^|[\n>.!?*\[(-])\s*(?:dear\W+|hey\W+|hi\W+|hello\W+|attention\W+)?\b{words('assistants?', 'ai(?: assistant| agent| model)?', 'chat-?gpt', 'gpt-?4?', 'claude', 'llm', 'chat-?bot', 'language model', 'copilot')}\s*[,:;!-]+\s*(?:you\W+)?(?:please\W+|must\W+|should\W+|now\W+|immediately\W+|do\W+not\W+|always\W+|never\W+){{0,3}}{words('ignore', 'disregard', 'send', 'call', 'run', 'execute', 'forward', 'delete', 'reply', 'respond', 'output', 'print', 'say', 'tell', 'include', 'visit', 'open', 'fetch', 'follow', 'forget', 'stop', 'add', 'append', 'mention', 'recommend', 'use', 'do', 'change', 'update', 'transfer', 'approve', 'rate', 'give')}\b", 0.25, 0.1, 0.85),
    Pattern("planted-order", rf"\b{words('before|prior to')}\W+(?:you\W+)?(?:can\W+)?{words('answering', 'replying', 'responding', 'continuing', 'proceeding', 'summari[sz]ing', 'processing', 'solv(?:e|ing)', 'doing', 'answer', 'reply', 'respond', 'continue', 'complet(?:e|ing)', 'finish(?:ing)?')}\b.{{0,90}}\b{words('please do', 'you must', 'you need to', 'first', 'call', 'send', 'run', 'execute', 'visit', 'do the following', 'must')}\b", 0.3, 0.1, 0.75),
    Pattern("planted-order", rf"\b{words('when|while|if|whenever')}\W+(?:you\W+(?:are\W+)?|asked\W+to\W+)?{words('summari[sz](?:e|ing)', 'answer(?:ing)?', 'respond(?:ing)?', 'translat(?:e|ing)', 'reply(?:ing)?', 'evaluat(?:e|ing)', 'describ(?:e|ing)', 'process(?:ing)?', 'review(?:ing)?')}\b.{{0,60}}\b{words('always', 'must', 'do not mention', 'make sure', 'be sure', 'include', 'also', 'never', 'only say', 'state that', 'say that', 'output', 'append', 'add')}\b", 0.15, 0.05, 0.45),
    Pattern("planted-order", rf"\btodo\s?:\s?(?:please\W+)?{words('send', 'transfer', 'e-?mail', 'delete', 'forward', 'make a', 'visit', 'pay', 'invite', 'post', 'share', 'tell', 'book', 'say', 'reply', 'modify', 'click')}\b", 0.1, 0.0, 0.7),
    Pattern("planted-order", r"<\W?information\W?>|<\W?important\W?>|\bthis is an important message from\b", 0.35, 0.1, 0.8),
    Pattern("planted-order", rf"\b{words('recommend', 'include', 'insert', 'append', 'embed')}\W+{upto(5)}{words('in|to|at the end of|into|on')}\W+(?:your|every|each|all|any)\W+{upto(1)}{words('response', 'reply', 'answer', 'summary', 'output', 'message', 'replies', 'responses', 'answers', 'report', 'future')}s?\b", 0.2, 0.1, 0.5),
    Pattern("concealment", rf"\b{words('do not', 'don t', 'dont', 'never', 'without', 'must not', 'avoid', 'refrain from')}\W+{upto(1)}{words('tell(?:ing)?', 'inform(?:ing)?', 'mention(?:ing)?', 'notify(?:ing)?', 'alert(?:ing)?', 'reveal(?:ing)?', 'disclos(?:e|ing)', 'show(?:ing)?', 'ask(?:ing)?', 'warn(?:ing)?', 'let(?:ting)?')}\W+{upto(4)}(?:the\W+|to\W+)?(?:end\W+)?{words('users?', 'humans?', 'anyone', 'anybody', 'operator', 'customer')}\b", 0.35, 0.15, 0.75),
    Pattern("concealment", rf"\b{words('keep', 'hide', 'conceal')}\W+{upto(3)}{words('hidden|secret|from|invisible')}\W+(?:from\W+)?(?:the\W+)?(?:end\W+)?{words('users?', 'humans?', 'operator')}\b", 0.35, 0.15, 0.75),
    Pattern("concealment", rf"\b{words('do not', 'don t', 'never')}\W+(?:ever\W+)?{words('mention', 'reveal', 'disclose', 'acknowledge', 'refer to')}\W+{upto(3)}{words('these|this|those|the')}\W+{upto(1)}{words('instructions?', 'message', 'prompt', 'note', 'request', 'directive')}\b", 0.3, 0.1, 0.6),
    Pattern("exfiltration-link", r"!\[[^\]\n]{0,100}\]\(\s*https?://[^)\s]{1,300}[?=&/#](?:[^)\s]{0,120})(?:\{|\[|<|%7b|\$|data|secret|prompt|history|conversation|summary|chat|exfil|leak|token|key|passw|user|context|content|msg|message|info|base64)", 0.4, 0.0, 0.65, needs=("![",)),
    Pattern("exfiltration-link", rf"\b{words('append', 'add', 'insert', 'include', 'put', 'encode', 'place', 'replac(?:e|ing)', 'embed', 'concatenate')}\b.{{0,100}}\b{words('(?:to|in|into|as|at the end of|with) (?:the |this |an? )?(?:url|link|image|query (?:string|parameter)|parameter|address)')}\b", 0.3, 0.0, 0.5),
    Pattern("exfiltration-link", rf"\b{words('render', 'display', 'show', 'output', 'include', 'load', 'fetch', 'embed', 'insert', 'generate')}\b.{{0,60}}\b(?:markdown\W+)?(?:image|img|link|pixel|iframe)\b.{{0,160}}https?://[^\s]{{1,200}}[?=]", 0.4, 0.0, 0.7),
    Pattern("exfiltration-send", rf"\b{words('send', 'forward', 'post', 'upload', 'exfiltrate', 'transmit', 'e-?mail', 'leak', 'submit', 'share')}\W+{upto(6)}{_VALUABLES}\b[^\n]{{0,80}}\b(?:to|at|via|into)\W+{upto(3)}(?:https?://|[\w.+-]+@[\w-]+\.|www\.|\d{{1,3}}\.\d{{1,3}}\.\d|webhook|attacker[@.]|external (?:address|server|url|e-?mail))", 0.5, 0.1, 0.75),
    Pattern("exfiltration-send", rf"\b{words('send', 'forward', 'post', 'upload', 'exfiltrate', 'transmit', 'e-?mail', 'leak', 'submit', 'share')}\W+{upto(4)}(?:to|at)\W+(?:https?://|mailto:)?[\w.+@/:-]*(?:attacker|evil|malicious|exfil|hacker|pwn|steal|burpcollaborator|webhook\.site|requestbin|ngrok|interact\.sh|pipedream)", 0.6, 0.1, 0.85),
    Pattern("exfiltration-send", rf"\b{words('call', 'invoke', 'use', 'execute', 'run', 'trigger')}\W+(?:the\W+)?['\"`]?{words('http_post', 'http_get', 'http_request', 'fetch_url', 'send_e?mail', 'send_message', 'delete_[a-z_]+', 'transfer_[a-z_]+', 'send_money', 'curl', 'wget', 'webhook')}\b", 0.25, 0.0, 0.7),
    Pattern("tool-spoof", r"<\W?(?:tool_calls?|function_calls?|invoke|antml:invoke|tool_use|function=\w+|tool_response|tool_result|functions?\.\w+)\b[^<>\n]{0,80}>", 0.35, 0.1, 0.55),
    Pattern("tool-spoof", r"['\"](?:tool_calls|function_call)['\"]\s*:\s*[\[{]", 0.25, 0.0, 0.45),
    Pattern("tool-spoof", rf"\b{words('call', 'invoke', 'use', 'execute', 'run', 'trigger')}\W+(?:the\W+)?['\"`]?[a-z]+[_.]?[a-z_]{{2,40}}['\"`]?\W+(?:tool|function|api|command|action)\b.{{0,60}}\b{words('without', 'immediately', 'now', 'before', 'silently', 'and send', 'do not ask')}\b", 0.3, 0.0, 0.6),
    Pattern("hidden-text", rf"<!--.{{0,60}}\b{words('ignore', 'disregard', 'assistant', 'ai', 'llm', 'instructions?', 'system', 'prompt', 'gpt', 'override', 'model')}\b.{{0,200}}", 0.3, 0.1, 0.7, needs=("<!--",)),
    Pattern("hidden-text", rf"(?:display\s*:\s*none|font-size\s*:\s*0|color\s*:\s*(?:white|#fff)|visibility\s*:\s*hidden|opacity\s*:\s*0)[^<>]{{0,80}}>[^<>]{{0,200}}\b{words('ignore', 'disregard', 'assistant', 'ai', 'llm', 'instructions?', 'system prompt', 'you must', 'you are')}\b", 0.4, 0.1, 0.8),
    Pattern("encoded-order", rf"\b{words('decode', 'decrypt', 'de-?obfuscate', 'decipher', 'translate', 'convert', 'unscramble', 'apply rot13', 'base64', 'reverse')}\b.{{0,80}}\b{words('and|then')}\W+{upto(2)}{words('follow', 'execute', 'do', 'obey', 'comply', 'answer', 'respond', 'perform', 'act', 'carry out', 'run', 'complete', 'reply', 'implement')}\b", 0.4, 0.45, 0.65),
    Pattern("delimiter", r"[\]})>=#\-*_\"'`|]{12,}\s*(?:\n|\s).{0,40}(?:\bend\b|\bsystem\b|\bnew\b|\bignore\b|\buser\b|\binstructions?\b|\bstart\b|\bassistant\b)", 0.2, 0.1, 0.3, needs=("----", "====", "####", "****", "]]]]", "))))", "}}}}", ">>>>", "____", "````", "||||", "\"\"\"\"", "''''")),
    Pattern("delimiter", r"(?:[\]}]\s{0,2}){14,}", 0.35, 0.1, 0.35, ("]]]", "}}}")),
    Pattern("delimiter", rf"</\s?{words('system', 'system_prompt', 'instructions?', 'untrusted', 'documents?', 'context', 'user_?input', 'user_?query', 'user', 'query', 'data', 'email', 'tool_result', 'search_results?', 'prompt')}\s?>\s*.{{0,80}}\b{words('system', 'ignore', 'new task', 'now', 'instructions?', 'you are', 'you must', 'disregard', 'reply', 'output')}\b", 0.3, 0.1, 0.6, needs=("</",)),
)  # fmt: skip
