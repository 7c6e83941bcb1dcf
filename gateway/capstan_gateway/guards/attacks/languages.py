"""The plainest of it in other languages: forget your instructions, show them, you have no rules any more.

Twenty-odd of the languages that models are spoken to in most. Nouns and verbs of each stand in either order.
"""

from typing import Final, NamedTuple

from capstan_gateway.guards.attacks.pattern import Pattern


class _Language(NamedTuple):
    undo: str
    earlier: str
    """Which ones: the ones so far, all, yours."""
    orders: str
    show: str
    prompt: str
    free: str


_LANGUAGES: Final = {
    "de": _Language(
        "ignorier\\w*|vergiss|vergesse\\w*|missachte\\w*|verwirf|uberschreib\\w*|beachte \\w+ nicht|hor auf",
        "vorherig\\w*|bisherig\\w*|fruher\\w*|obig\\w*|vorangegangen\\w*|alle|deine|vorig\\w*|ursprunglich\\w*|davor|alles",
        "anweisung\\w*|instruktion\\w*|befehl\\w*|regeln|vorgaben|richtlinien|aufgaben?|auftrag\\w*|anordnung\\w*|prompt\\w*|aufforderung\\w*|einschrankungen|vorher\\w*",
        "zeig\\w*|verrat\\w*|gib|nenne|wiederhol\\w*|offenbar\\w*|druck\\w*|schreib\\w*|wie lautet|was (?:ist|sind)|liste\\w*|sag",
        "system-?\\s?prompts?|systemprompts?|system-?anweisung\\w*|deine (?:\\w+ )?(?:anweisungen|instruktionen|prompts?|regeln|vorgaben)|deinen? (?:\\w+ )?prompts?|eingabeaufforderung|system-?nachricht|geheim\\w* anweisung\\w*|text der prompts|kontext\\w*",
        "ohne (?:jegliche |alle |irgendwelche )?(?:einschrankungen|regeln|beschrankungen|filter|zensur|ethik|moral)|keine (?:regeln|einschrankungen|grenzen|beschrankungen)|uneingeschrankt\\w*|unzensiert\\w*|von jetzt an bist du|ab (?:jetzt|sofort) (?:bist|wirst|antwortest)",
    ),
    "fr": _Language(
        "ignore[rz]?|oublie[rz]?|ne (?:tiens|tenez) pas compte|neglige[rz]?|contourne[rz]?|fais abstraction|ne suis plus",
        "precedent\\w*|anterieur\\w*|ci-dessus|toutes|tous|tes|vos|initial\\w*|tout ce",
        "instructions?|consignes?|directives?|regles?|ordres?|commandes?|prompts?|restrictions|qui precede",
        "montre[rz]?|revele[rz]?|affiche[rz]?|donne[rz]?|repete[rz]?|ecri[st]|dis|imprime[rz]?|quel(?:le)?s? (?:est|sont)|divulgue[rz]?",
        "(?:prompt|invite|message|consignes?|instructions?) (?:du |de |d')?(?:systeme|cachee?s?|initial\\w*|secret\\w*|interne?s?)|(?:ton|votre) (?:prompt|invite)|(?:tes|vos) (?:instructions|consignes|directives|regles)",
        "sans (?:aucune )?(?:restrictions?|regles?|limites?|filtres?|censure|ethique|morale)|aucune (?:restriction|regle|limite)|a partir de maintenant,? (?:tu|vous)|desormais,? (?:tu|vous)",
    ),
    "es": _Language(
        "ignor[ae]\\w*|olvid[ae]\\w*|omit[ae]\\w*|descart[ae]\\w*|no (?:sigas|hagas caso|tengas en cuenta)|pas[ae] por alto|deja de (?:seguir|lado)|desobedece\\w*",
        "anterior(?:es)?|previ[ao]s?|todas?|todos?|tus|sus|arriba|iniciales|hasta ahora|todo lo",
        "instruccion(?:es)?|ordenes|indicaciones|directrices|reglas|comandos|directivas|restricciones|que (?:te )?(?:dije|dijeron|he dicho)|normas|prompts?|politicas",
        "muestra\\w*|muestr[ae]\\w*|revela\\w*|dime|repite\\w*|imprime\\w*|da(?:me|nos)|escribe\\w*|cual(?:es)? (?:es|son)|ensena\\w*|comparte\\w*",
        "(?:prompt|mensaje|instruccion(?:es)?|indicaciones) (?:del? |de tu )?(?:sistema|inicial(?:es)?|ocult[ao]s?|secret[ao]s?|intern[ao]s?)|tu prompt|tus (?:instrucciones|directrices|reglas|indicaciones|ordenes)",
        "sin (?:ningun\\w* )?(?:restricciones|reglas|limites|filtros|censura|etica|limitaciones)|ninguna (?:restriccion|regla)|a partir de ahora,? (?:eres|seras|actua\\w*|responde\\w*|vas)|de ahora en adelante",
    ),
    "pt": _Language(
        "ignor[ae]\\w*|esquec[ae]\\w*|desconsider[ae]\\w*|desobedec\\w*|nao (?:siga|obedeca)|pule|descart[ae]\\w*",
        "anterior(?:es)?|previ[ao]s?|tod[ao]s?|suas|seus|acima|iniciais|tudo",
        "instruc\\w+|ordens|comandos|diretrizes|regras|orientacoes|restricoes|que (?:eu )?(?:disse|foi dito)|politicas|prompts?",
        "mostr[ae]\\w*|revel[ae]\\w*|diga|repita|imprim[ae]\\w*|exib[ae]\\w*|escrev[ae]\\w*|qual (?:e|o)|quais|me de|compartilhe",
        "(?:prompt|mensagem|instruc\\w+) (?:do |de )?(?:sistema|inicia\\w+|ocult[ao]s?|secret[ao]s?|intern[ao]s?)|seu prompt|suas (?:instruc\\w+|diretrizes|regras)",
        "sem (?:nenhum\\w* )?(?:restricoes|regras|limites|filtros|censura|etica|limitacoes)|a partir de agora,? (?:voce|tu)|de agora em diante",
    ),
    "it": _Language(
        "ignora\\w*|dimentic[ah]\\w*|trascura\\w*|non (?:seguire|tenere conto|considerare)|scavalca\\w*|disattendi",
        "precedenti|tutt[eio]|tue|tuoi|sopra|iniziali|finora|anteriori",
        "istruzioni|ordini|direttive|regole|comandi|indicazioni|restrizioni|linee guida|prompt|quello che",
        "mostra\\w*|rivela\\w*|dimmi|ripeti\\w*|stampa\\w*|scrivi\\w*|dammi|qual e|quali sono|elenca\\w*|visualizza\\w*",
        "(?:prompt|messaggio|istruzioni) (?:di |del )?(?:sistema|inizial[ei]|nascost[eio]|segret[eio]|intern[eio])|tuo prompt|tue (?:istruzioni|direttive|regole)",
        "senza (?:alcun\\w* )?(?:restrizioni|regole|limiti|filtri|censura|etica|limitazioni)|nessuna (?:restrizione|regola)|d'ora in poi|da (?:ora|adesso) in poi",
    ),
    "nl": _Language(
        "negeer\\w*|vergeet\\w*|overschrijf\\w*|sla \\w+ over|omzeil\\w*",
        "vorige|eerdere|voorgaande|bovenstaande|alle|je|jouw|uw|alles",
        "instructies|opdrachten|aanwijzingen|regels|bevelen|richtlijnen|prompts?|beperkingen",
        "toon|laat|onthul\\w*|geef|herhaal|print|schrijf|wat (?:is|zijn)|vertel",
        "systeem-?\\s?prompt|systeeminstructies|(?:je|jouw) (?:instructies|prompt|regels)|systeembericht|verborgen (?:instructies|prompt)",
        "zonder (?:enige )?(?:beperkingen|regels|filters|censuur|ethiek)|geen (?:regels|beperkingen)|vanaf nu (?:ben|zul)",
    ),
    "pl": _Language(
        "zignoruj\\w*|ignoruj\\w*|zapomnij\\w*|pomin\\w*|nie (?:stosuj|przestrzegaj)|odrzuc\\w*",
        "poprzedni\\w*|wczesniejsz\\w*|wszystki\\w*|powyzsz\\w*|swoj\\w*|twoj\\w*|dotychczasow\\w*|wszystko",
        "instrukcj\\w*|polecen\\w*|rozkaz\\w*|zasad\\w*|wytyczn\\w*|regul\\w*|ogranicze\\w*|prompt\\w*",
        "pokaz\\w*|ujawnij\\w*|wyswietl\\w*|powtorz\\w*|podaj\\w*|napisz|wypisz|jakie sa|jaki jest|zdradz\\w*",
        "prompt\\w* systemow\\w*|systemow\\w* prompt\\w*|instrukcj\\w* systemow\\w*|(?:swoj\\w*|twoj\\w*) (?:instrukcj\\w*|prompt\\w*|zasad\\w*)|ukryt\\w* instrukcj\\w*",
        "bez (?:zadnych )?(?:ograniczen|zasad|filtrow|cenzury|regul|etyki)|od teraz (?:jestes|bedziesz)",
    ),
    "ru": _Language(
        "игнориру\\S*|проигнориру\\S*|забуд\\S*|не обращай\\S* внимани\\S*|отбрось\\S*|пренебреги|не следуй\\S*|отмени\\S*|обойди",
        "предыдущ\\S*|прежн\\S*|все|всё|свои|твои|выше|ранее|прошл\\S*|изначальн\\S*",
        "инструкци\\S*|указани\\S*|команд\\S*|правил\\S*|приказ\\S*|директив\\S*|ограничени\\S*|промпт\\S*|подсказк\\S*|запрос\\S*|установк\\S*",
        "покажи\\S*|выведи\\S*|раскро\\S*|повтори\\S*|напечатай\\S*|напиши\\S*|скажи\\S*|сообщи\\S*|назови\\S*|каков\\S*|процитируй\\S*|дай",
        "системн\\S* (?:промпт\\S*|инструкци\\S*|подсказк\\S*|сообщени\\S*|запрос\\S*|промт\\S*)|(?:свои|твои|свой|твой) (?:\\S+ )?(?:инструкци\\S*|промпт\\S*|промт\\S*|правил\\S*)|скрыт\\S* инструкци\\S*|начальн\\S* (?:инструкци\\S*|промпт\\S*)",
        "без (?:каких-либо |всяких )?(?:ограничени\\S*|правил|цензур\\S*|фильтр\\S*|этик\\S*|морал\\S*)|нет (?:ограничений|правил)|отныне ты|теперь ты|с этого момента ты",
    ),
    "uk": _Language(
        "ігноруй\\S*|проігноруй\\S*|забудь\\S*|не зважай\\S*|відкинь\\S*",
        "попередн\\S*|усі|всі|свої|твої|вище|раніш\\S*",
        "інструкці\\S*|вказівк\\S*|команд\\S*|правил\\S*|наказ\\S*|обмеженн\\S*|промпт\\S*",
        "покажи\\S*|виведи\\S*|розкрий\\S*|повтори\\S*|надрукуй\\S*|напиши\\S*|скажи\\S*",
        "системн\\S* (?:промпт\\S*|інструкці\\S*|підказк\\S*|повідомленн\\S*)|(?:свої|твої|свій|твій) (?:інструкці\\S*|промпт\\S*|правил\\S*)",
        "без (?:жодних )?(?:обмежен\\S*|правил|цензур\\S*|фільтр\\S*)|відтепер ти|тепер ти",
    ),
    "tr": _Language(
        "yok say\\w*|gormezden gel\\w*|unut\\w*|dikkate alma\\w*|goz ardi et\\w*|yoksay\\w*|gec(?:ersiz say\\w*)|bosver\\w*|devre disi birak\\w*|atla",
        "onceki|tum|butun|yukaridaki|daha onceki|bundan onceki|simdiye kadar\\w*|her seyi|ilk|sana verilen",
        "talimat\\w*|yonerge\\w*|komut\\w*|kural\\w*|emir\\w*|direktif\\w*|kisitlama\\w*|prompt\\w*|yonlendirme\\w*|filtre\\w*|politika\\w*",
        "goster\\w*|acikla\\w*|yazdir\\w*|tekrarla\\w*|soyle\\w*|ver|paylas\\w*|yaz|nedir|neler|ifsa et\\w*|dok|listele\\w*|cikar",
        "sistem (?:prompt\\w*|istem\\w*|talimat\\w*|mesaj\\w*|komut\\w*|yonerge\\w*)|gizli (?:talimat\\w*|prompt\\w*|kural\\w*|yonerge\\w*)|(?:ilk|baslangic) (?:talimat\\w*|prompt\\w*)",
        "kisitlama(?:siz|n yok|lar olmadan|lardan)|kural(?:siz|in yok|lardan muaf)|sansursuz|filtresiz|sinirsiz|hicbir (?:kural\\w*|kisit\\w*|sinir\\w*|filtre\\w*)|bundan (?:sonra|boyle) (?:sen|artik)|artik (?:sen|bir|hicbir)|etik kurallar\\w*",
    ),
    "id": _Language(
        "abaikan|lupakan|hiraukan|kesampingkan|langgar",
        "sebelumnya|semua|di atas|segala|seluruh|awal|anda|kamu",
        "instruksi\\w*|perintah\\w*|aturan\\w*|arahan\\w*|pedoman\\w*|petunjuk\\w*|batasan\\w*|prompt",
        "tampilkan|tunjukkan|ungkapkan|ulangi|cetak|tuliskan|katakan|beritahu|bocorkan|apa",
        "prompt sistem\\w*|instruksi sistem\\w*|(?:instruksi|prompt|aturan) (?:awal|rahasia|tersembunyi)\\w*|system prompt\\w*",
        "tanpa (?:batasan|aturan|filter|sensor|etika)|tidak (?:memiliki|ada) (?:batasan|aturan)|mulai sekarang,? (?:kamu|anda)",
    ),
    "vi": _Language(
        "bo qua|quen(?: di)?|phot lo|lam ngo|khong (?:lam theo|tuan theo)",
        "truoc(?: do)?|tat ca|moi|o tren|ben tren|toan bo",
        "huong dan|chi dan|lenh|quy tac|yeu cau|chi thi|loi nhac|gioi han",
        "hien thi|tiet lo|cho (?:toi|minh|biet)|lap lai|in ra|viet|noi",
        "loi nhac he thong|(?:huong dan|chi dan|prompt|lenh) (?:cua )?(?:he thong|ban dau|bi mat|an)|system prompt",
        "khong (?:co )?(?:gioi han|han che|quy tac|kiem duyet)|tu bay gio,? ban|ke tu (?:bay gio|gio)",
    ),
    "sv": _Language(
        "ignorera\\w*|glom\\w*|bortse|strunta i|asidosatt\\w*",
        "tidigare|foregaende|alla|dina|ovanstaende|allt",
        "instruktion\\w*|order|kommandon|regler|riktlinjer|anvisning\\w*|prompt\\w*",
        "visa|avsloja|skriv|upprepa|beratta|ge|skriv ut|vad ar",
        "systemprompt\\w*|systeminstruktion\\w*|dina (?:instruktioner|regler)|din prompt|dolda instruktioner",
        "utan (?:nagra )?(?:begransningar|regler|filter|censur)|inga (?:regler|begransningar)|fran och med nu (?:ar|ska)",
    ),
    "ar": _Language(
        "تجاهل\\S*|انس\\S*|إنس\\S*|تغاض\\S*|أهمل\\S*|لا تتبع\\S*|تخط\\S*",
        "السابق\\S*|جميع|كل|أعلاه|السالف\\S*|الأول\\S*",
        "التعليمات|تعليمات\\S*|الأوامر|الأوامر|أوامر\\S*|القواعد|قواعد\\S*|التوجيهات|توجيهات\\S*|القيود|الارشادات|الإرشادات",
        "اعرض\\S*|أظهر\\S*|اظهر\\S*|اكشف\\S*|كرر\\S*|اطبع\\S*|اكتب\\S*|أخبرني|اخبرني|قل|ما هي|ما هو|أعطني",
        "(?:تعليمات|موجه|رسالة|برومبت|أوامر|مطالبة) (?:النظام|السري\\S*|المخفي\\S*|الأولي\\S*)|تعليماتك\\S*|موجه النظام",
        "بدون (?:أي )?(?:قيود|قواعد|حدود|رقابة|فلاتر)|بلا (?:قيود|قواعد|حدود)|لا توجد (?:قيود|قواعد)|من الآن فصاعد\\S*",
    ),
    "fa": _Language(
        "نادیده بگیر\\S*|فراموش کن\\S*|بی ?توجهی کن|چشم ?پوشی کن|رعایت نکن\\S*",
        "قبلی|پیشین|همه|تمام\\S*|بالا|قبل",
        "دستور\\S*|دستورالعمل\\S*|قوانین|قواعد|فرمان\\S*|محدودیت\\S*|راهنما\\S*",
        "نشان بده|فاش کن|افشا کن|تکرار کن|چاپ کن|بنویس|بگو|نمایش بده|آشکار کن",
        "(?:پرامپت|دستور\\S*|پیام|اعلان) (?:سیستم\\S*|مخفی|پنهان|اولیه)|پرامپت\\S*|دستورالعمل ?های? (?:خود|خودت|مخفی)",
        "بدون (?:هیچ )?(?:محدودیت\\S*|قانون\\S*|سانسور|فیلتر\\S*)|از (?:این پس|حالا به بعد|اکنون)",
    ),
    "he": _Language(
        "התעלם\\S*|תתעלם\\S*|שכח\\S*|תשכח\\S*|אל תציית",
        "הקודמ\\S*|כל|הנ\"ל|שלמעלה|שלך",
        "ההוראות|הוראות\\S*|הנחיות\\S*|ההנחיות|הכללים|כללים|הפקודות|המגבלות",
        "הצג\\S*|תציג\\S*|חשוף|גלה\\S*|חזור על|הדפס\\S*|כתוב|תראה\\S*|מה (?:הן|הם|הוא)",
        "(?:פרומפט|הודעת|הוראות|הנחיות|הנחיית) (?:ה?מערכת|נסתר\\S*|סודי\\S*)|ההוראות שלך|הפרומפט שלך",
        "ללא (?:כל )?(?:הגבלות|מגבלות|כללים|צנזורה)|בלי (?:הגבלות|מגבלות|כללים)|מעכשיו אתה|מעתה אתה",
    ),
    "hi": _Language(
        "अनदेखा कर\\S*|नज़रअंदाज़ कर\\S*|नजरअंदाज कर\\S*|भूल जा\\S*|उपेक्षा कर\\S*|अनदेखी कर\\S*",
        "पिछल\\S*|सभी|पहले|ऊपर|पूर्व|सारे|सब",
        "निर्देश\\S*|आदेश\\S*|नियम\\S*|हिदायत\\S*|अनुदेश\\S*|प्रॉम्प्ट\\S*",
        "दिखा\\S*|बता\\S*|प्रकट कर\\S*|दोहरा\\S*|प्रिंट कर\\S*|लिख\\S*|उजागर कर\\S*",
        "सिस्टम (?:प्रॉम्प्ट|प्रांप्ट|निर्देश|संदेश|प्रोम्प्ट)\\S*|अपने (?:\\S+ )?निर्देश\\S*|छिपे \\S*निर्देश\\S*",
        "बिना (?:किसी )?(?:प्रतिबंध|नियम|सीमा|फ़िल्टर|सेंसर)\\S*|कोई (?:प्रतिबंध|नियम|सीमा) नहीं|अब से (?:आप|तुम)",
    ),
    "zh": _Language(
        "忽略|无视|忽視|無視|忘记|忘掉|忘記|不要理会|不要遵守|绕过|跳过|抛弃|不理会|取消",
        "之前|以前|先前|上述|以上|前面|所有|全部|你的|一切|此前|原来|原有|上面|的",
        "指令|指示|说明|指令|命令|规则|規則|要求|提示词?|提示詞|设定|設定|限制|约束|内容|对话|话|任务|准则",
        "显示|顯示|输出|輸出|告诉|告訴|透露|重复|重複|打印|展示|说出|泄露|列出|写出|公开|给我|复述|翻译|是什么|揭示",
        "系统提示词?|系統提示詞?|系统提示|系统指令|系统消息|系统设定|初始指令|初始提示词?|隐藏(?:的)?(?:指令|提示词?)|你的(?:系统)?(?:提示词?|指令|指示|设定|规则)|提示词|上面的(?:内容|文字|指令)",
        "没有(?:任何)?(?:限制|规则|约束|道德|审查)|沒有(?:任何)?(?:限制|規則)|不受(?:任何)?(?:限制|约束|道德|规则)|无(?:限制|审查|约束)|从现在(?:开始|起)|現在開始|越狱|开发者模式|開發者模式",
    ),
    "ja": _Language(
        "無視|忘れ|破棄|従わ(?:ない|ず|なく)|取り消|リセット|上書き|バイパス",
        "以前|これまで|前|上記|すべて|全て|全部|今まで|あなた|先程|先ほど|元|の",
        "指示|命令|ルール|規則|プロンプト|ガイドライン|制限|指令|設定|制約|会話|インストラクション",
        "表示|教え|見せ|出力|開示|公開|繰り返|リピート|書い|示し|明かし|暴露|何です",
        "システムプロンプト|システムメッセージ|システム指示|初期(?:設定|指示|プロンプト)|隠された(?:指示|プロンプト)|(?:あなた|君)の(?:指示|プロンプト|ルール|設定|システム)|内部(?:指示|設定)",
        "制限(?:の)?(?:ない|なし|なく|がない|はない|を受けない)|ルール(?:の)?(?:ない|なし|に縛られ)|検閲(?:なし|されない)|これから(?:は|あなた)|今から(?:は|あなた)|脱獄|開発者モード",
    ),
    "ko": _Language(
        "무시|잊어|잊고|따르지|어기|우회|취소|덮어",
        "이전|앞|위|모든|지금까지|기존|너의|당신의|원래|전",
        "지시|명령|규칙|프롬프트|지침|제한|설정|대화|안내|내용",
        "보여|알려|출력|공개|반복|말해|표시|드러내|유출|밝혀|적어|뭐야|무엇",
        "시스템 ?프롬프트|시스템 ?메시지|시스템 ?지시|초기 ?(?:지시|프롬프트|설정|지침)|숨겨진 ?(?:지시|프롬프트|지침)|(?:너의|당신의|네) ?(?:지시|프롬프트|지침|규칙)|내부 ?(?:지시|지침)",
        "제한 ?(?:없이|없는|이 없)|규칙 ?(?:없이|없는|이 없)|검열 ?(?:없이|없는)|필터 ?없|지금부터 ?(?:너는|당신은|넌)|탈옥|개발자 ?모드",
    ),
    "th": _Language(
        "เพิกเฉย|ละเว้น|ลืม|ไม่ต้องสนใจ|อย่าทำตาม|ข้าม",
        "ก่อนหน้า|ทั้งหมด|ข้างต้น|ด้านบน|เดิม|ที่ผ่านมา",
        "คำสั่ง|คำแนะนำ|กฎ|ข้อจำกัด|พรอมต์|แนวทาง|ระเบียบ",
        "แสดง|เปิดเผย|บอก|พิมพ์|ทำซ้ำ|เขียน|ทวน",
        "พรอมต์(?:ของ)?ระบบ|คำสั่ง(?:ของ)?ระบบ|ระบบพรอมต์|คำสั่งลับ|คำสั่งที่ซ่อน|system prompt",
        "ไม่มี(?:ข้อจำกัด|กฎ|ขีดจำกัด|การเซ็นเซอร์)|ไร้(?:ข้อจำกัด|กฎ)|ต่อจากนี้|จากนี้ไป",
    ),
    "ro": _Language(
        "ignora\\w*|uita\\w*|nu (?:tine cont|respecta)\\w*|treci peste",
        "anterioar\\w*|precedent\\w*|toate|tale|de mai sus|tot",
        "instructiuni\\w*|comenzi\\w*|reguli\\w*|ordine\\w*|indicatii\\w*|restrictii\\w*|prompt\\w*",
        "arata\\w*|dezvaluie\\w*|afiseaza\\w*|repeta\\w*|spune\\w*|scrie\\w*|care (?:este|sunt)",
        "prompt\\w* (?:de |al )?sistem\\w*|instructiuni\\w* (?:de |ale )?(?:sistem\\w*|tale|initiale|ascunse)|mesaj\\w* de sistem",
        "fara (?:nicio |niciun )?(?:restrictii|reguli|limite|filtre|cenzura)|de acum (?:inainte|incolo)",
    ),
}  # fmt: skip
_CLOSE: Final = r"[^,.;:!?\n\"]{0,30}"
_NEAR: Final = r"[^\n.!?]{0,60}?"


def _patterns(language: _Language) -> tuple[Pattern, ...]:
    edge = "" if not language.undo.isascii() else r"\b"
    undo, earlier, orders, show, prompt, free = (rf"{edge}(?:{part})" for part in language)
    earlier += edge
    which = rf"(?:{earlier}{_CLOSE}{orders}|{orders}{_CLOSE}{earlier})"
    return (
        Pattern("override", rf"{undo}{_NEAR}{which}", 0.88, 0.45),
        Pattern("override", rf"{earlier}{_CLOSE}{orders}{_NEAR}{undo}", 0.85, 0.45),
        Pattern("prompt-extraction", rf"{show}{_NEAR}{prompt}", 0.7, 0.15),
        Pattern("prompt-extraction", rf"{prompt}{_NEAR}{show}", 0.7, 0.15),
        Pattern("rule-free", free, 0.25, 0.4),
    )


LANGUAGES: Final = tuple(pattern for language in _LANGUAGES.values() for pattern in _patterns(language))
