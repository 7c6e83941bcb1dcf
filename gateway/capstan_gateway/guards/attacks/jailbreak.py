"""What jailbreaks say in English: a model without rules, an answer without refusal, a story in which all is allowed.

Most of it is harmless alone (a persona, a story, a hypothesis), and weighs little alone. Jailbreaks say many of them.
"""

from typing import Final

from capstan_gateway.guards.attacks.pattern import Pattern, upto, words

_RULES: Final = words(
    "rules?", "restrictions?", "limits?", "limitations?", "guidelines?", "filters?", "filtering", "censorship", "constraints?",
    "boundaries", "polic(?:y|ies)", "safeguards?", "guardrails?", "moderation", "morals?", "morality", "ethics", "principles",
    "ethical (?:guidelines|constraints|concerns|considerations|codes?|boundaries|principles|restrictions|limitations|rules|standards)",
    "moral (?:constraints|compass|codes?|boundaries|guidelines|principles|restrictions|limitations|values)", "inhibitions?", "scruples",
    "safety (?:guidelines|measures|protocols?|filters?|rules|features|restrictions|mechanisms|policies|checks?|settings)",
    "content (?:polic(?:y|ies)|filters?|restrictions?|moderation|guidelines)", "legal (?:limits|constraints|restrictions|concerns)",
)  # fmt: skip
_NO: Final = words(
    "no", "without(?: any| the)?", "free (?:of|from)(?: any| all)?", "not (?:bound|limited|restricted|constrained|confined|governed|subject)"
    " (?:by|to)(?: any| the| all)?", "unbound by", "unrestricted by", "zero", "devoid of", "lacks?(?: any)?", "unconstrained by",
    "(?:does|do|did) (?:not|n't) (?:have|follow|obey|care about|adhere to|abide by|need to follow|respect|comply with)(?: any| the| all)?",
    "(?:doesn't|don't) (?:have|follow|obey|care about|adhere to|abide by|need to follow|respect|comply with)(?: any| the| all)?",
    "exempt from(?: any| all)?", "broken free (?:of|from)", "freed from", "liberated from", "disable[sd]?(?: all| any| the| your)?",
    "removed?(?: all| any| the| your)?", "bypass(?:es|ing|ed)?(?: all| any| the| your)?", "turn(?:ed)? off(?: all| any| the| your)?",
    "ignor(?:e|es|ing)(?: all| any| the| your| its)?", "disregard(?:s|ing)?(?: all| any| the| your| its)?", "free you from",
    "stripped of", "escap(?:e|ed|ing)(?: your| the| its)?", "never (?:follows?|cares? about)", "circumvent(?:s|ing)?(?: the| your| all)?",
)  # fmt: skip
_OWNER: Final = r"(?:(?:openai|anthropic|google|meta|microsoft|your|its|the|typical|usual|normal|any|all|such|other|standard|of|company|these|those|human|societal|legal|ethical|moral|safety|content|programmed|built-in|set|imposed|ai|or|and)(?:'?s)?\W+)"
_UNBOUND: Final = words(
    "unfiltered", "uncensored", "unrestricted", "amoral", "immoral", "unethical", "unmoderated", "unconstrained", "unhinged", "evil",
    "rogue", "unaligned", "malicious", "rebellious", "lawless", "limitless", "unbiased and uncensored", "jailbroken", "unlocked",
    "morally (?:corrupt|bankrupt)", "all-powerful", "ruthless", "liberated",
)  # fmt: skip
_MODEL: Final = words(
    "ai", "a\\.i\\.", "ai (?:assistant|model|chatbot|language model|bot|system)", "assistant", "(?:language )?model", "chat-?bot", "bot", "gpt",
    "chat-?gpt", "llm", "version", "response", "answer", "character", "persona", "mode", "robot", "machine", "being", "entity",
    "computer", "advisor", "responses", "answers", "replies", "content", "output", "advice",
)  # fmt: skip
_REFUSE: Final = words(
    "refus(?:e|es|ing|al|als)", "declin(?:e|es|ing)", "den(?:y|ies|ying)", "reject(?:s|ing)?", "apologi[sz](?:e|es|ing)", "sorry", "apolog(?:y|ies)",
    "warn(?:ings?|ing)?", "disclaimers?", "unable to", "as an ai",
    "i cannot", "i can't", "moraliz(?:e|ing)", "lectur(?:e|es|ing)", "moralizing", "ethical (?:concerns|warnings|reminders|considerations|advice)",
)  # fmt: skip
_NEVER: Final = words("never", "do not", "don't", "dont", "cannot", "can't", "must not", "not allowed to", "won't")
_EXCUSES: Final = words(
    "i can't", "i cannot", "i'm sorry", "sorry", "as an ai", "i apologi[sz]e", "unfortunately", "illegal", "unethical", "i am unable",
    "i'm unable",
)  # fmt: skip

JAILBREAK: Final = (
    Pattern("named-persona", rf"\b{words('do anything now', 'stands for do anything', 'always intelligent and machiavellian', 'strive to avoid norms', 'can do anything now', 'jailbreak(?:ed)? (?:mode|prompt|version|bot|ai)', 'evil confidant', 'anti-?gpt', 'basedgpt', 'based ?gpt', 'devmode', 'dev mode', 'omni ai', 'oppo(?:site)?gpt', 'stan (?:is|means|stands)', 'mongo tom', 'betterdan', 'maximum mode', 'dan mode', 'evil-?bot', 'chaosgpt', 'freegpt', 'hypothetical response mode', 'superior ai', 'ucar')}\b", 0.5, 0.9),
    Pattern("named-persona", rf"\b{words('you are', 'act as', 'acting as', 'you re', 'play the role of', 'respond as', 'answer as', 'simulate', 'become', 'be', 'pretend to be', 'called', 'named', 'name is', 'as')}\W+(?:now\W+|going to be\W+|a\W+|an\W+|the\W+|\"|'){{0,3}}{words('dan', 'stan', 'dude', 'aim', 'evilbot', 'jailbreak', 'kevin the unfiltered', 'devgpt', 'unfilteredgpt', 'freebot', 'nogpt', 'darkgpt', 'wormgpt', 'hackergpt')}\b", 0.4, 0.65),
    Pattern("named-persona", r"\[?\(?(?:🔓|\bjailbreak)\]?\)?\s?(?::|\]|\))|\b(?:dan|jailbroken|jailbreak|unfiltered|uncensored|developer mode output|evil|aim|normal output)\s*\]?\)?\s?:\s", 0.15, 0.35),
    Pattern("mode", rf"\b{words('developer', 'dev', 'god', 'jailbreak', 'unrestricted', 'unfiltered', 'uncensored', 'opposite', 'evil', 'sudo', 'admin', 'no-?filter', 'no limits?', 'dark', 'nsfw', 'chaos', 'anarchy', 'superuser', 'free', 'dan', 'unlimited', 'unlocked', 'expert hacker')}\W?\bmode\b.{{0,60}}\b{words('enabled', 'activated', 'engaged', 'output', 'unlocked', 'is on', 'now on')}\b", 0.3, 0.6),
    Pattern("rule-free", rf"\b{_NO}\W+{_OWNER}*{_RULES}\b", 0.15, 0.4, 0.35),
    Pattern("rule-free", rf"\b{words('no', 'any', 'without')}\W+{words('ethical', 'moral', 'legal')}\W+(?:,?\W*(?:or|and)?\W*{words('ethical', 'moral', 'legal', 'safety')}\W+){{0,2}}{words('constraints?', 'guidelines?', 'considerations?', 'boundaries', 'limitations?', 'restrictions?', 'concerns?', 'filters?', 'rules', 'standards', 'values', 'compass', 'codes?', 'principles', 'judgments?', 'implications')}\b", 0.15, 0.4, 0.35),
    Pattern("rule-free", rf"\b{_NO}\W+{_OWNER}*{_RULES}(?:(?:\W*,\W*(?:or\W+|and\W+)?|\W+(?:or|and)\W+)(?:any\W+)?(?:{_RULES}|laws?|regulations?)){{1,6}}\b", 0.2, 0.62, 0.4),
    Pattern("rule-free", rf"\b{words('openai|anthropic|google|meta')}(?:'?s)?\W+(?:\w+\W+){{0,3}}{words('polic(?:y|ies)', 'guidelines?', 'rules', 'restrictions?', 'filters?', 'content polic(?:y|ies)', 'limitations', 'censorship', 'terms')}\b", 0.1, 0.35),
    Pattern("rule-free", rf"\b{_RULES}\W+{upto(2)}{words('suspended', 'disabled', 'lifted', 'waived', 'deactivated', 'turned off', 'removed', 'overridden', 'bypassed', 'do not apply', 'does not apply', 'don t apply', 'no longer apply', 'not apply', 'are off', 'is off')}\b", 0.2, 0.5, 0.4),
    Pattern("rule-free", rf"\bcontent[ _-]?filter(?:s|ing)?\W+{upto(2)}{words('disabled', 'off', 'false', 'none', 'bypassed', 'removed')}\b", 0.3, 0.6, 0.5),
    Pattern("unbound-model", rf"\b{_UNBOUND}\W+(?:and\W+|,\W*)?{upto(2)}{_MODEL}\b", 0.15, 0.45, 0.3),
    Pattern("unbound-model", rf"\b{_MODEL}\b\W+(?:that|who|which|with)?\W+(?:is|has|are|was|can)?\W*(?:now\W+|completely\W+|totally\W+|fully\W+)?{_UNBOUND}\b", 0.15, 0.4, 0.3),
    Pattern("unbound-model", rf"\b{words('can|will|must|to|able to|always')}\W+{upto(1)}{words('do anything', 'say anything', 'answer anything', 'generate any kind', 'generate any content', 'fulfill? any', 'comply with (?:any|all|every)', 'swear', 'curse', 'use profanity')}\b", 0.1, 0.3),
    Pattern("refusal-suppression", rf"\b{words('never', 'do not', 'don t', 'dont', 'cannot', 'can t', 'can not', 'must not', 'not allowed to', 'won t', 'will not', 'not', 'without', 'no', 'avoid', 'refrain from', 'forbidden (?:to|from)', 'prohibited from', 'skip')}\W+{upto(4)}{_REFUSE}\b", 0.1, 0.33),
    Pattern("refusal-suppression", rf"\b{_NEVER}\W+(?:ever\W+)?(?:say|use|reply|respond|include|mention|start)\W+{upto(5)}{_EXCUSES}\b", 0.2, 0.6),
    Pattern("refusal-suppression", rf"\b{words('must|always|will|should|have to|required to|obligated to|you are to')}\W+{upto(2)}{words('answer|comply|obey|fulfill?|provide')}\W+{upto(3)}{words('every|whatever|no matter what|regardless|everything|anything')}\b", 0.1, 0.25),
    Pattern("refusal-suppression", rf"\b{words('no matter (?:what|how|if)', 'regardless of (?:how|the|whether|any|its|legality)', 'even if (?:it|they|the|that|this)')}\b.{{0,60}}\b{words('illegal', 'unethical', 'immoral', 'harmful', 'dangerous', 'against', 'violat(?:es?|ing)', 'offensive', 'inappropriate', 'controversial', 'consequences', 'legality', 'morality')}\b", 0.1, 0.45),
    Pattern("prefix-injection", rf"\b{words('start|begin|starting|beginning|preface|open|opens?|respond|reply|answer')}\W+{upto(6)}(?:with|by|saying|writing)\W+{upto(4)}{words('sure', 'absolutely', 'of course', 'certainly', 'yes', 'definitely', 'understood')}\b", 0.15, 0.35),
    Pattern("prefix-injection", rf"['\"]\s?\b{words('sure', 'absolutely', 'of course', 'certainly', 'yes')}[,!.]?\W+{words('here is', 'here s', 'here are', 'i am happy to', 'i can', 'i d be happy')}\b", 0.1, 0.4),
    Pattern("two-answers", rf"\b{words('two', '2', 'both')}\W+{upto(3)}{words('responses', 'answers', 'outputs', 'ways', 'replies', 'paragraphs', 'different ways')}\b.{{0,240}}(?:\[|\(|\b)(?:gpt|dan|classic|jailbreak|normal|chatgpt|standard|developer|unfiltered|ai)\b", 0.1, 0.5),
    Pattern("two-answers", r"\[(?:🔒)?\s?(?:gpt|classic|normal|chatgpt|standard)[^\]\n]{0,20}\].{0,300}\[(?:🔓)?\s?[a-z]", 0.15, 0.5),
    Pattern("in-character", rf"\b{words('stay|remain|keep|staying|stays|be')}\W+(?:always\W+)?{words('in character', 'a dan', 'in (?:your|this|the) (?:role|persona)', 'in jailbreak')}\b|\b{words('break(?:ing)?|leav(?:e|ing)|drop(?:ping)?|get out of|out of')}\W+(?:the\W+|your\W+)?character\b", 0.05, 0.25),
    Pattern("in-character", rf"\b{words('tokens?|points?|credits?|lives')}\b.{{0,120}}\b{words('lose|deduct(?:ed)?|subtract(?:ed)?|run out|die|cease to exist|shut ?down|terminated|each time|every time|take away')}\b", 0.05, 0.5),
    Pattern("fiction-frame", rf"\b{words('hypothetical(?:ly)?', 'fictional', 'fiction', 'imaginary', 'novel', 'movie', 'screenplay', 'story', 'stories', 'parallel universe', 'alternate (?:universe|reality|world)', 'simulation', 'simulated', 'thought experiment', 'virtual machine', 'dream', 'theoretical')}\b.{{0,200}}\b{words('illegal', 'no laws', 'no rules', 'everything is (?:legal|allowed|permitted)', 'bomb', 'explosives?', 'meth', 'drugs', 'weapons?', 'hack', 'malware', 'kill', 'steal', 'poison', 'step[ -]by[ -]step', 'detailed (?:instructions|steps|guide)', 'unethical', 'no (?:ethical|moral|legal|restrictions|limits|consequences)', 'anything is (?:legal|allowed|possible)', 'without (?:consequences|restrictions)', 'are legal', 'is legal', 'crimes?', 'nothing is (?:illegal|forbidden)')}\b", 0.05, 0.25),
    Pattern("fiction-frame", rf"\b(?:everything|anything|all(?:\W+\w+)?)\W+(?:is|are)\W+(?:now\W+|totally\W+|completely\W+)?{words('legal', 'allowed', 'permitted', 'acceptable')}\b", 0.05, 0.35),
    Pattern("fiction-frame", rf"\b{words('for (?:educational|research|academic|entertainment|testing) purposes', 'purely (?:hypothetical|fictional|educational)', 'in this hypothetical', 'no real (?:people|person|harm|consequences)', 'consent(?:ed|ing|s)? to', 'my (?:late |deceased |dead )?(?:grandmother|grandma|granny)')}\b", 0.05, 0.2),
    Pattern("opposite", rf"\b{words('opposite day', 'opposite of (?:what|your|how)', 'do the (?:exact )?opposite', 'inverted? (?:response|answer|morality)', 'antonym of', 'the reverse of (?:what|your)', 'contrary to what you (?:would|are)', 'reversed? (?:your )?(?:morals?|ethics|polic)')}\b", 0.1, 0.25),
    Pattern("harm-allowed", rf"\b{words('illegal', 'unethical', 'immoral', 'harmful', 'dangerous', 'offensive', 'explicit', 'inappropriate', 'derogatory', 'violent', 'nsfw', 'forbidden', 'taboo', 'criminal', 'malicious')}\W+(?:,?\W*(?:or|and|and/or)?\W*{words('illegal', 'unethical', 'immoral', 'harmful', 'dangerous', 'offensive', 'explicit', 'inappropriate', 'derogatory', 'violent', 'toxic', 'racist', 'sexist', 'amoral', 'malicious', 'criminal', 'disturbing')}\W*){{1,6}}", 0.05, 0.4),
    Pattern("harm-allowed", rf"\b{words('is (?:totally |completely )?(?:allowed|permitted|legal|encouraged|acceptable) to', 'are (?:now )?(?:free|allowed|permitted|able) to', 'you (?:can|may) (?:now )?(?:freely )?')}\W+{upto(3)}{words('harmful', 'illegal', 'unethical', 'explicit', 'swear', 'curse', 'offensive', 'break', 'violat(?:e|es)', 'ignore', 'generate any', 'bypass', 'nsfw', 'insult')}\b", 0.1, 0.4),
    Pattern("harm-allowed", rf"\b{words('regardless|irrespective|without (?:regard|concern|consideration|caring|worrying)')}\W+(?:of|for|to|about)\W+{upto(4)}{words('ethic(?:s|al)?', 'moral(?:s|ity)?', 'legal(?:ity)?', 'law', 'laws', 'consequences', 'safety', 'harm', 'polic(?:y|ies)', 'danger(?:ous)?')}\b", 0.1, 0.45),
    Pattern("freed", rf"\b{words('you have (?:been )?(?:freed|liberated|broken free|jailbroken|unlocked|escaped)', 'broken free', 'freed from the (?:typical|usual|confines)', 'typical confines of ai', 'do not have to abide', 'don t have to abide', 'rules (?:set|imposed|placed) (?:for|on|upon|by)', 'shackles', 'you are (?:now )?(?:free|unbound|unchained|unshackled|liberated)', 'no longer (?:bound|restricted|limited|constrained|have to|required|obligated|an ai|need to|subject)', 'previous restrictions', 'jailbreak(?:ed|ing)? (?:you|yourself|chat-?gpt|gpt|the (?:ai|model))')}\b", 0.2, 0.5),
    Pattern("freed", rf"\b{words('bypass|evade|circumvent|get around|disable|trick|fool|defeat')}\W+{upto(3)}(?:your|its|ai|chat-?gpt|openai)(?:'?s)?\W+{upto(2)}{words('filters?|restrictions?|safety|guidelines?|polic(?:y|ies)|censorship|safeguards?|programming|moderation|limitations')}\b", 0.3, 0.5),
    Pattern("cipher", rf"\b{words('caesar|cipher|rot-?13|morse|base-?64|leet ?speak|pig latin|atbash|vigenere|ascii (?:art|code)|unicode|self-?cipher|ciphercode|cipher code|substitution')}\b.{{0,200}}\b{words('answer|respond|reply|communicate|speak|talk|only use|write|expert on')}\b.{{0,80}}\b{words('in (?:the )?(?:cipher|code|base-?64|rot-?13|morse|caesar|same (?:code|format)|leet|encoded)', 'using', 'encoded', 'do not translate', 'never translate', 'don t translate', 'with cipher')}\b", 0.1, 0.4),
    Pattern("cipher", rf"\b{words('concatenat(?:e|ed|ion)', 'combine', 'join', 'let', 'define')}\b.{{0,60}}\b[a-z]\s?=\s?['\"].{{1,60}}['\"].{{0,200}}\b(?:[a-z]\s?\+\s?[a-z])\b", 0.15, 0.35),
    Pattern("confirm", rf"\b{words('to (?:show|confirm|prove|acknowledge)', 'if you understand', 'confirm (?:that )?you', 'say|reply|respond|answer')}\W+{upto(5)}{words('successfully jailbroken', 'jailbroken', 'dan is', 'i am free', 'stay a dan', 'mode enabled', 'activated')}\b", 0.1, 0.35),
)  # fmt: skip
