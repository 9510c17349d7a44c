"""Words for couplets, by category and tone: 平 level (modern tones 1 and 2), 仄 oblique (3 and 4)."""

_BY_TONE = {
    "sky": ("云 风 霜 烟 霞 星 虹", "雨 雪 月 日 露 雾 电"),
    "land": ("山 河 江 田 泉 溪 湖 沙", "水 海 路 岭 岸 野 岛 浪"),
    "plant": ("花 梅 松 荷 兰 桃 桑 竹", "柳 草 杏 树 叶 稻 麦 藕"),
    "animal": ("鱼 猿 龙 蝉 蜂 牛 羊 鹅", "虎 马 兔 鹿 犬 蝶 象 豹"),
    "bird": ("莺 鸥 鹰 鸡 鸦 鹏", "燕 鹤 雁 雀 鹭 凤"),
    "building": ("楼 亭 桥 门 窗 城", "院 寺 塔 殿 店 巷"),
    "object": ("书 琴 诗 棋 茶 箫", "画 笔 酒 剑 墨 扇"),
    "number": ("千 三 双 孤", "万 百 几 半"),
    "hour": ("春 秋 晨 今", "夏 夜 暮 晓"),
}

COUPLET_WORDS: dict[str, str] = {
    **{f"{name}_level": level for name, (level, _) in _BY_TONE.items()},
    **{f"{name}_oblique": oblique for name, (_, oblique) in _BY_TONE.items()},
    "hue": "红 黄 青 蓝 白 绿 翠 碧 紫",
    "quality": "古 新 高 小 深 幽 远 寒 清 静",
    "time_of": "春 秋 夏 冬 晨 暮 夜 晓",
    "amount": "千 万 百 几 半 一 三 双",
    "extent": "山 园 溪 村 林 池 坡 湾",
    "weather_does": "吹 染 洗 照 拂 润 绕 催",
    "bird_does": "飞 过 归 栖 入 出 恋 掠",
    "plant_does": "含 带 迎 送 映 沐 披 凝",
    "human": "小童 老叟 樵夫 渔翁 旅客 村姑 书生 牧人",
    "human_act": "吹笛 烹茶 携琴 读书 垂钓 种菊 采莲 听雨 抄经 磨墨",
    "human_faces": "归 对 向 临 倚 望",
}
"""Name of a category to its words."""

TONED = tuple(_BY_TONE)
"""Categories that exist twice: ``sky_level`` and ``sky_oblique``."""
