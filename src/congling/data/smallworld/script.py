"""Simplified to Traditional characters, for the words of the small world only.

A table of single characters is enough because the world keeps clear of words whose characters part ways in
the Traditional script (后 of an empress, 面 of noodles, 干 of drying …): here 里 is always "inside", 只
always counts. Quotation marks follow the custom of each script too.
"""

PAIRS = """
万萬 脚腳 卜蔔 办辦 庙廟 库庫 贵貴 关關 系係 驿驛 鸠鳩 鹂鸝 锣鑼 槛檻 晒曬 梦夢 号號 药藥 图圖 独獨
变變 东東 丢丟 两兩 个個 临臨 为為 么麼 书書 买買 乱亂 于於 云雲 亲親 从從 们們 会會 伞傘 传傳 儿兒
兰蘭 兴興 养養 兽獸 册冊 写寫 准準 凉涼 减減 几幾 凤鳳 别別 剑劍 动動 卖賣 压壓 双雙 发發 只隻 台臺
叶葉 后後 吗嗎 听聽 哑啞 园園 围圍 圆圓 场場 块塊 坛壇 墙牆 声聲 壳殼 壶壺 处處 备備 头頭 夸誇 奖獎
妈媽 婶嬸 学學 宝寶 实實 对對 层層 岛島 岭嶺 带帶 帮幫 干乾 庄莊 应應 开開 张張 弯彎 弹彈 强強 归歸
当當 怀懷 总總 恋戀 惊驚 愿願 戏戲 报報 担擔 拢攏 挡擋 换換 捡撿 携攜 攒攢 数數 旧舊 时時 晓曉 条條
来來 极極 枣棗 柜櫃 树樹 样樣 桥橋 桨槳 楼樓 樱櫻 欢歡 气氣 汤湯 没沒 洁潔 浇澆 涨漲 润潤 渔漁 湾灣
湿濕 满滿 滩灘 灯燈 灵靈 烂爛 烟煙 烧燒 热熱 爱愛 爷爺 狮獅 猫貓 猬蝟 现現 电電 画畫 盘盤 着著 码碼
砚硯 种種 窝窩 笔筆 笼籠 筝箏 箫簫 篮籃 篱籬 粮糧 紧緊 红紅 约約 纸紙 纹紋 线線 细細 织織 终終 经經
结結 绕繞 给給 绳繩 绿綠 编編 缝縫 网網 羡羨 肤膚 脸臉 腊臘 舍捨 苹蘋 莲蓮 莺鶯 萝蘿 蓝藍 虫蟲 虾蝦
蚁蟻 蚂螞 蚕蠶 蜗蝸 蝉蟬 装裝 见見 觉覺 触觸 让讓 认認 记記 讲講 诗詩 话話 语語 说說 请請 读讀 谁誰
谢謝 账賬 贴貼 赛賽 赢贏 轮輪 软軟 轻輕 转轉 输輸 边邊 过過 还還 这這 远遠 连連 邻鄰 酿釀 采採 钓釣
针針 钟鐘 钥鑰 钱錢 钳鉗 铁鐵 铃鈴 铅鉛 铛鐺 铜銅 银銀 锄鋤 错錯 镜鏡 长長 门門 闪閃 闭閉 问問 间間
闹鬧 队隊 阳陽 阴陰 阶階 陆陸 雾霧 静靜 顶頂 顾顧 预預 颗顆 颜顏 风風 飘飄 飞飛 饭飯 饱飽 饺餃 饼餅
饿餓 馆館 馋饞 马馬 驼駝 骆駱 骑騎 鱼魚 鲤鯉 鲫鯽 鳅鰍 鳞鱗 鸟鳥 鸡雞 鸥鷗 鸦鴉 鸭鴨 鸽鴿 鹅鵝 鹉鵡
鹊鵲 鹏鵬 鹤鶴 鹦鸚 鹭鷺 鹰鷹 麦麥 黄黃 龙龍 龟龜 “「 ”」 乌烏 丛叢 广廣 点點 车車 里裡 栖棲 设設
"""
"""Characters of the world that differ: Simplified, Traditional."""

_TABLE = str.maketrans({pair[0]: pair[1] for pair in PAIRS.split()})
_BACK = str.maketrans({pair[1]: pair[0] for pair in PAIRS.split()}) | dict.fromkeys(_TABLE, "\0")


def to_traditional(text: str) -> str:
    """A text of the small world in Traditional characters; the same length, character for character."""
    return text.translate(_TABLE)


def to_simplified(text: str) -> str:
    """The Simplified form of a text of the small world in Traditional characters; undoes ``to_traditional``.

    A Simplified character in it stands for none and becomes ``\\0``.
    """
    return text.translate(_BACK)
