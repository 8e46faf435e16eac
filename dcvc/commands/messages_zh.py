"""The Chinese of dcvc/commands/messages.py: TEXTS of the help of the main commands, word for word as they stand in
the code, and TEMPLATES of errors, notes and results. tests/commands/test_messages.py says what is missing."""

# ---- the list of commands
COMMANDS = {
    "tune the boxed model on some clips and show what came of it": "在一些片段上微调自带模型，并展示结果",
    "measure speed: dcvc bench data DIR": "测量速度：dcvc bench data DIR",
    "re-encode a data set once into quickly seekable segments": "将数据集一次性重新编码为便于快速定位的片段",
    "index a data set of videos, name the files that cannot be used": "为视频数据集建立索引，并列出无法使用的文件",
    "train the P-frame codec (the flags of train_dcvc.py)": "训练 P 帧编解码器（选项同 train_dcvc.py）",
    "train a VQGAN, the I-frame codec, on frames of videos": "用视频帧训练 VQGAN（I 帧编解码器）",
    "learn the statistics of a VQGAN's codes: smaller I-frames": "学习 VQGAN 码字的统计规律，使 I 帧更小",
    "fine-tune a model on your own videos, in minutes": "几分钟内用自己的视频微调模型",
    "list the models that are here": "列出本机已有的模型",
    "bring a model here from the network": "从网络取得模型",
    "make a model folder of published weights": "由公开的权重生成模型文件夹",
    "train and judge a grid of recipes, settings and seeds": "按配方、设置和随机种子的网格训练并评测",
    "draw the curves of results files for a paper: PDF, SVG, PNG": "为论文绘制结果文件的曲线：PDF、SVG、PNG",
    "code a video into a dcvc stream": "将视频编码为 dcvc 码流",
    "show what a stream or a checkpoint holds": "显示码流或检查点的内容",
    "put a stream and the sound of its video into one .mkv": "将码流与原视频的声音放入同一个 .mkv",
    "decode a dcvc stream into a video, PNG files or y4m": "将 dcvc 码流解码为视频、PNG 文件或 y4m",
    "cut frames out of a stream without coding anew": "从码流中剪出若干帧，不重新编码",
    "join streams without coding anew": "连接码流，不重新编码",
    "measure trained codecs on whole videos": "在完整视频上测量训练好的编解码器",
    "measure x264, x265, AV1 and VP9 on the same frames": "在相同的帧上测量 x264、x265、AV1 与 VP9",
    "make one HTML page of results files": "由结果文件生成一个 HTML 页面",
    "make a CSV, LaTeX or Markdown table of results files": "由结果文件生成 CSV、LaTeX 或 Markdown 表格",
    "print what lets a shell complete these commands": "输出命令行补全脚本",
    "stopped": "已停止",
    "usage: dcvc COMMAND [options]": "用法：dcvc 命令 [选项]",
    "dcvc COMMAND --help tells the options of one. dcvc --version":
        "dcvc 命令 --help 显示该命令的选项。dcvc --version 显示版本",
}

# ---- what commands are for
PURPOSES = {
    "Take the boxed model and some videos (yours, or clips made for it), tune the model on them, and show\n"
    "what came of it beside x264 and x265. With --classic: train both codecs of DCVC-2021 from nothing.":
        "取自带模型与一些视频（您的视频，或为此生成的片段），在其上微调模型，并与 x264、x265 对照展示结果。"
        "加 --classic：从零训练 DCVC-2021 的两个编解码器。",
    "Fine-tune a model on your own videos, in minutes: dcvc tune --videos DIR [--minutes 10]. Part of\n"
    "them is held out; the report compares before, after, x264 and x265 on it.":
        "几分钟内用自己的视频微调模型：dcvc tune --videos DIR [--minutes 10]。留出一部分视频，"
        "报告在其上比较微调前、微调后、x264 与 x265。",
    "List the models that are here, in the package and pulled; with a name, show its card in full.\n\n"
    "Everything is read from the cards, and each file's SHA-256 is compared with that of its card.\n":
        "列出本机已有的模型，包括自带的与下载的；给出名称则显示其完整说明卡。\n\n"
        "所有内容均读自说明卡，并将每个文件的 SHA-256 与卡上的比较。\n",
    "Code a video into a dcvc stream: dcvc encode in.mp4 out.dcvc [--model MODEL]. Sound is left out;\n"
    "dcvc mux brings it back.\n\n"
    "- stands for y4m on stdin and for the stream on stdout: ffmpeg -i x -f yuv4mpegpipe - | dcvc encode - -\n":
        "将视频编码为 dcvc 码流：dcvc encode in.mp4 out.dcvc [--model MODEL]。声音不在其中，dcvc mux 可将其加回。\n\n"
        "- 表示标准输入的 y4m 与标准输出的码流：ffmpeg -i x -f yuv4mpegpipe - | dcvc encode - -\n",
    "Decode a dcvc stream: dcvc decode out.dcvc out.mp4 [--model MODEL].\n\n"
    "The output is a video (.mp4, .mkv, .y4m), a folder of PNG files, or y4m on stdout (-); the stream may\n"
    "come from stdin (-). The sound of a file that dcvc mux made goes into .mp4 and .mkv as it is.\n":
        "解码 dcvc 码流：dcvc decode out.dcvc out.mp4 [--model MODEL]。\n\n"
        "输出为视频（.mp4、.mkv、.y4m）、PNG 文件夹，或标准输出的 y4m（-）；码流可来自标准输入（-）。"
        "dcvc mux 所生成文件中的声音原样写入 .mp4 与 .mkv。\n",
    "Put a dcvc stream and the sound of its video into one file: dcvc mux out.dcvc in.mp4 -o out.mkv.\n\n"
    "Nothing is coded anew. dcvc decode out.mkv final.mp4 makes a video with sound of it.\n":
        "将 dcvc 码流与原视频的声音放入同一文件：dcvc mux out.dcvc in.mp4 -o out.mkv。\n\n"
        "不重新编码。dcvc decode out.mkv final.mp4 由此生成有声视频。\n",
    "Show what a file holds: header, frames and rate over time of a dcvc stream, or what a checkpoint was\n"
    "made of and what each part of its codecs costs.":
        "显示文件的内容：dcvc 码流的文件头、各帧与随时间变化的码率，或检查点的来源及其编解码器各部分的开销。",
    "Re-encode a data set once into short segments that are quick to seek in: then few frames have to\n"
    "be decoded for one sample. The same command goes on after a stop, and does again what changed.":
        "将数据集一次性重新编码为便于快速定位的短片段：此后每个样本只需解码少量帧。"
        "停止之后，同一条命令会继续，并重做有变化的部分。",
    "Index a data set of videos: how many frames it has, and which files cannot be used and why.":
        "为视频数据集建立索引：共有多少帧，哪些文件无法使用及其原因。",
}

# ---- options
OPTIONS = {
    "usage: ": "用法：",
    "positional arguments": "位置参数",
    "options": "选项",
    "show this help message and exit": "显示此帮助并退出",
    "where to compute; auto: CUDA, else MPS, else the CPU": "在何处计算；auto：依次为 CUDA、MPS、CPU",
    "print the results only": "只输出结果",
    "print JSON": "输出 JSON",
    "print the result as JSON": "以 JSON 输出结果",
    "print the summary as JSON": "以 JSON 输出摘要",
    "no progress bar": "不显示进度条",
    "replace an existing output that this command did not make (never an input)":
        "替换并非本命令生成的已有输出（绝不替换输入）",
    "videos to train on: folders of videos, tar files, video files, .txt lists of paths, an index, or URLs of these":
        "用于训练的视频：视频文件夹、tar 文件、视频文件、.txt 路径列表、索引，或它们的 URL",
    "folders of videos, tar files, video files, .txt lists of paths, an index, or URLs of these":
        "视频文件夹、tar 文件、视频文件、.txt 路径列表、索引，或它们的 URL",
    "a folder of videos, a tar file, a video file, a .txt list of paths, an index, or a URL of one of these":
        "视频文件夹、tar 文件、视频文件、.txt 路径列表、索引，或其中之一的 URL",
    "where parts of videos from URLs are kept (default: the user's cache folder)":
        "来自 URL 的视频片段缓存在何处（默认：用户的缓存文件夹）",
    "how much of them at most, in gigabytes (default: 10)": "缓存的上限，单位为 GB（默认：10）",
    "what decodes .dcvc streams among the videos (default: the models here that made them)":
        "用什么解码视频中的 .dcvc 码流（默认：本机上生成它们的模型）",
    # demo and tune
    "videos to judge by (default: some of yours)": "用于评判的视频（默认：取您的一部分）",
    "where everything is written": "全部输出的位置",
    "another number makes other clips and weights": "换一个数字会得到不同的片段与权重",
    "train a VQGAN and DCVC-2021 from nothing instead, stage by stage": "改为逐阶段从零训练 VQGAN 与 DCVC-2021",
    "videos to judge by (default: every fourth of yours, three at most; of a single one its last third)":
        "用于评判的视频（默认：每四个取一个，至多三个；只有一个视频时取其最后三分之一）",
    "what to begin from: a model of many rates by name, run folder or file (default: light-m)":
        "起点：多码率模型的名称、运行文件夹或文件（默认：light-m）",
    "for everything, the report included (default: 10)": "总时间，包括生成报告（默认：10）",
    "an I-frame every N frames where models are judged (default: 32)": "评判模型时每 N 帧一个 I 帧（默认：32）",
    "for the model and the report; everything takes it as --model; the same command goes on in it (default: tuned)":
        "存放模型与报告；所有命令都接受它作为 --model；同一条命令会在其中继续（默认：tuned）",
    "another number draws other samples": "换一个数字会抽取不同的样本",
    # models and info
    "show this model's card in full": "显示该模型的完整说明卡",
    "a stream (.dcvc, or .mkv of dcvc mux), a checkpoint file, a run folder or the name of a model":
        "码流（.dcvc，或 dcvc mux 的 .mkv）、检查点文件、运行文件夹或模型名称",
    "a model by name (dcvc models lists them), a run folder or a checkpoint file (default: bits are not told apart by "
    "term)": "模型名称（dcvc models 列出）、运行文件夹或检查点文件（默认：不分项列出比特数）",
    "of the channel whose buffer is shown for a stream: 500k, 1.5M (default: the stream's mean)":
        "显示码流缓冲时所用信道的速率：500k、1.5M（默认：码流的平均值）",
    "write the configuration that can be told from a VQGAN's file": "写出可由 VQGAN 文件得知的配置",
    "depth of a VQGAN's residual codebook, where its file does not tell it (1: not residual)":
        "VQGAN 残差码本的深度，用于文件未说明的情形（1：非残差）",
    # encode
    "a video file that FFmpeg opens (its sound is left out), a .dcvc stream, or - (y4m on stdin)":
        "FFmpeg 能打开的视频文件（不含声音）、.dcvc 码流，或 -（标准输入的 y4m）",
    "the stream to write (.dcvc), or - (stdout)": "要写出的码流（.dcvc），或 -（标准输出）",
    "a model by name (dcvc models lists them), a run folder or a checkpoint file (default: light-m)":
        "模型名称（dcvc models 列出）、运行文件夹或检查点文件（默认：light-m）",
    "code only the first N frames": "只编码前 N 帧",
    "how many bits to spend (one of these)": "使用多少比特（选其一）",
    "of a model with many rates: 0 to 63, higher is better, in quarter steps (default: the model's middle)":
        "多码率模型的质量：0 至 63，越高越好，步长四分之一（默认：模型的中间值）",
    "what the I-frame and the P-frames behind it get above or below the clip's quality, as in 12,-4,0,-4,4; flat: "
    "nothing (default: the model's own)":
        "I 帧及其后的 P 帧比片段质量高或低多少，如 12,-4,0,-4,4；flat：不变（默认：模型自身的设置）",
    "bits per second: 500k, 1.5M": "每秒比特数：500k、1.5M",
    "bits per pixel: 0.05": "每像素比特数：0.05",
    "of the whole file: 20MB": "整个文件的大小：20MB",
    "of RGB, the mean over the clip: 36": "RGB 的 PSNR，全片平均：36",
    "code a file twice: the first time tells what each frame takes": "编码两遍：第一遍得知每帧所需",
    "an I-frame every N frames, -1: only the first (default: 32); --gop_size is the old name":
        "每 N 帧一个 I 帧，-1：仅第一帧（默认：32）；--gop_size 为旧名称",
    "an I-frame where a shot ends (default: where a rate is asked for)": "镜头切换处用 I 帧（默认：指定码率时）",
    "start anew from the shown picture N, 2N … frames after an I-frame, for models that remember more than it "
    "(default: never)": "对记忆多于画面的模型，在 I 帧之后第 N、2N…… 帧从显示的画面重新开始（默认：从不）",
    "frames per second that the stream states (default: by the frames' own times; of a varying rate, its mean)":
        "码流所标明的帧率（默认：由各帧时间得出；帧率变化时取平均）",
    "decode every frame at once and compare it": "每帧编码后立即解码并比较",
    "compute by arithmetic that never rounds: every machine decodes the same pictures (default: where the model has "
    "ranges for it, as light-s and light-m have; DCVC-2021 and uf-ld can, too); --no-exact computes in floats: about "
    "1.6 times as fast, but another machine's pictures may differ in last bits":
        "使用从不舍入的算术计算：任何机器都解码出相同的图像"
        "（默认：模型具有所需的范围时，如 light-s 与 light-m；DCVC-2021 与 uf-ld 也可以）；"
        "--no-exact 使用浮点数计算：速度约为 1.6 倍，但另一台机器的图像可能在最末几位不同",
    "code large frames of a VQGAN in tiles of so many pixels a side, in less memory":
        "将 VQGAN 的大帧按此边长（像素）分块编码，占用更少内存",
    "write the checksum of every decoded frame (4 bytes each), so that the decoder notices a difference":
        "写入每个解码帧的校验和（每帧 4 字节），使解码器能发现差异",
    "end with an index of the I-frames, for seeking": "末尾附 I 帧索引，便于定位",
    "tell the time from a frame to its packet": "报告从一帧到其数据包的时间",
    # the I-frame codec
    "I-frame codec (for checkpoints that name none, or to take another one)":
        "I 帧编解码器（用于未指明的检查点，或改用另一个）",
    "which kind of I-frame codec; light: that of the model light-m unless another one is named":
        "I 帧编解码器的种类；light：若未另行指定，取自模型 light-m",
    "a model of CompressAI's zoo, or of dcvc models": "CompressAI 模型库或 dcvc models 中的模型",
    "its quality, 1 to 8 (to 6 for cheng2020)": "其质量，1 至 8（cheng2020 至 6）",
    "CompressAI's published weights (downloaded)": "CompressAI 的公开权重（需下载）",
    "a local file of CompressAI weights": "CompressAI 权重的本地文件",
    "size of a light I-frame codec that is trained from the start": "从头训练的 light I 帧编解码器的规模",
    "VQGAN configuration, JSON or YAML, or a word (llamagen-vq16, ibq, …); not needed where one lies beside the "
    "weights or they tell it":
        "VQGAN 配置，JSON 或 YAML，或一个词（llamagen-vq16、ibq……）；权重旁有配置或权重可说明时不需要",
    "VQGAN weights, a file or a folder of the hub": "VQGAN 权重，文件或 hub 的文件夹",
    "which weights of a file that holds them as trained and averaged, of --model and of the I-frame codec (default: "
    "those that the tools of the file's owner take)":
        "文件同时含训练权重与平均权重时取哪一个，用于 --model 与 I 帧编解码器（默认：文件所属项目的工具所取的）",
    # decode and mux
    "the stream (.dcvc, or .mkv of dcvc mux), or - (stdin)": "码流（.dcvc，或 dcvc mux 的 .mkv），或 -（标准输入）",
    "a .mp4, .mkv or .y4m file, a new folder for PNG files, or - (y4m on stdout)":
        ".mp4、.mkv 或 .y4m 文件，存放 PNG 的新文件夹，或 -（标准输出的 y4m）",
    "a model by name (dcvc models lists them), a run folder or a checkpoint file (default: the model here that made "
    "the stream)": "模型名称（dcvc models 列出）、运行文件夹或检查点文件（默认：本机上生成该码流的模型）",
    "lossy H.264 of this quality (default: lossless RGB H.264)": "此质量的有损 H.264（默认：无损 RGB H.264）",
    "where to begin: HH:MM:SS.sss, seconds, or a frame's number with an f behind it (1750f)":
        "起点：HH:MM:SS.sss、秒数，或后带 f 的帧号（1750f）",
    "how many frames (default: all)": "多少帧（默认：全部）",
    "where the stream is damaged, keep the frames before the damage": "码流损坏时，保留损坏之前的帧",
    "stop at the first frame that is not the encoder's to the last bit, even where the stream can be read on":
        "遇到第一个与编码端并非逐位相同的帧即停止，即使码流仍可继续读取",
    "the stream (.dcvc, or .mkv of this command)": "码流（.dcvc，或本命令的 .mkv）",
    "the video that it was made of, with the sound": "码流所由来的视频，含声音",
    "where in the video a stream of dcvc cut begins: the --start of the cut":
        "dcvc cut 的码流在视频中的起点：剪切时的 --start",
    "the Matroska file to write (.mkv)": "要写出的 Matroska 文件（.mkv）",
    # prepare
    "a folder for the segments and manifest.json: a new one, or one of this command's, which is continued":
        "存放片段与 manifest.json 的文件夹：新文件夹，或本命令生成的文件夹（将继续）",
    "how segments are written": "片段如何写出",
    "which frames are kept": "保留哪些帧",
    "visual: no difference to be seen; lossless: no difference at all": "visual：看不出差别；lossless：毫无差别",
    "the encoder's CRF (default: by --quality)": "编码器的 CRF（默认：由 --quality 决定）",
    "how segments are coded; ffv1 is always lossless, in .mkv files": "片段的编码方式；ffv1 总是无损，写入 .mkv 文件",
    "write 10 bits where a source has more than 8: its own samples, not converted":
        "源多于 8 位时写 10 位：保留其样本，不作转换",
    "frames of a segment": "每个片段的帧数",
    "a keyframe every N frames": "每 N 帧一个关键帧",
    "scale the short side down to N pixels": "将短边缩小到 N 像素",
    "leave out videos of a short side below N pixels": "舍去短边小于 N 像素的视频",
    "leave out videos, and stretches of them, that are shorter": "舍去更短的视频与视频段",
    "leave out stretches of a second or more in which nothing moves": "舍去一秒以上没有运动的段落",
    "leave out black frames": "舍去黑帧",
    "leave out frames that repeat the one before": "舍去与前一帧相同的帧",
    "begin a new segment where the scene changes": "场景变化处开始新的片段",
    "of one video at most N segments, evenly spread": "每个视频至多 N 个片段，均匀分布",
    "a CSV or TSV table with a column named file; its other columns go into the manifest":
        "含 file 列的 CSV 或 TSV 表；其余各列写入 manifest",
    "how many share the work": "由多少个进程分担",
    "only the I-th of N parts of the videos, for N machines; all may write into one OUT":
        "只处理 N 份视频中的第 I 份，用于 N 台机器；可都写入同一个 OUT",
    "leave out videos that cannot be read": "舍去无法读取的视频",
    # index
    "where to keep the index (default: the user's cache folder); a name ending in .dcvcindex can be given as "
    "--train_video_dir": "索引的位置（默认：用户的缓存文件夹）；以 .dcvcindex 结尾的名称可用作 --train_video_dir",
    "endings of the files that are videos": "视频文件的扩展名",
    "decode every frame; files without damage are read faster from then on": "解码每一帧；此后无损坏的文件读取更快",
    "files to open at the same time (default: one per core)": "同时打开的文件数（默认：每核一个）",
    "crops for the table of how many files they would leave in": "用于统计表的裁剪尺寸：各会保留多少文件",
    "GOPs for the table of how many files they would leave in": "用于统计表的 GOP：各会保留多少文件",
    "strides for the table of how many files they would leave in": "用于统计表的步距：各会保留多少文件",
}

TEXTS = {**COMMANDS, **PURPOSES, **OPTIONS}

# What is in the braces of both forms is the same. Longer ones are tried first.
TEMPLATES = {
    " (default: {value})": "（默认：{value}）",
    "error: {message}": "错误：{message}",
    "note: {message}": "提示：{message}",
    # The form of most errors, and what stands in its parts.
    "{where}: found {found}, needed {needed}": "{where}：现为 {found}，需要 {needed}",
    "{where}: missing, needed {needed}": "{where}：缺少，需要 {needed}",
    "{problem}; {advice} --help lists the options": "{problem}；{advice} --help 列出各选项",
    "{problem}; did you mean {word}?": "{problem}；是否想输入 {word}？",
    "unknown command {name}; did you mean {word}?": "未知命令 {name}；是否想输入 {word}？",
    "unknown command {name}": "未知命令 {name}",
    "{where}: unknown argument {name}": "{where}：未知参数 {name}",
    "{where}: the following arguments are required: {names}": "{where}：缺少以下参数：{names}",
    "{where}: argument {name}: expected one argument": "{where}：参数 {name}：需要一个值",
    "{where}: argument {name}: found {found}, needed one of {words}":
        "{where}：参数 {name}：现为 {found}，需要以下之一：{words}",
    "at least {least}": "至少 {least}",
    "one of {words}": "以下之一：{words}",
    "between {low} and {high}": "{low} 与 {high} 之间",
    "more than {least}": "大于 {least}",
    "less than {most}": "小于 {most}",
    # Files.
    "{path}: no such checkpoint file, run folder or model; models here: {names}":
        "{path}：没有此检查点文件、运行文件夹或模型；本机模型：{names}",
    "{path}: no such checkpoint file, run folder or model": "{path}：没有此检查点文件、运行文件夹或模型",
    "{path}: no such file": "{path}：没有此文件",
    "{path}: no such file or folder": "{path}：没有此文件或文件夹",
    "{path}: no such stream": "{path}：没有此码流",
    "{path}: {count} of {all} frames are not the encoder's to the last bit, the first is frame {first}: this machine "
    "computes other numbers (another processor, GPU or library); --strict stops there, and dcvc encode --exact makes "
    "streams that are the same everywhere":
        "{path}：{all} 帧中有 {count} 帧与编码端并非逐位相同，首个为第 {first} 帧：本机的计算结果不同"
        "（另一种处理器、GPU 或库）；--strict 在该帧停止，dcvc encode --exact 生成处处相同的码流",
    "{path}: cannot be read ({reason})": "{path}：无法读取（{reason}）",
    "{path}: cannot be written ({reason})": "{path}：无法写入（{reason}）",
    "{path}: is the input itself ({source}), nothing was done; give the output another name":
        "{path}：就是输入本身（{source}），未作任何改动；请给输出另取名称",
    "{path}: lies in {source}, which is read, nothing was done; give the output another name":
        "{path}：位于要读取的 {source} 中，未作任何改动；请给输出另取名称",
    "{path}: exists and is not {kind}, nothing was done; give another name, or --overwrite to replace it":
        "{path}：已存在且不是 {kind}，未作任何改动；请另取名称，或用 --overwrite 替换",
    "compressai: not installed, needed for I-frames of CompressAI's zoo; {hint}":
        "compressai：未安装，CompressAI 模型库的 I 帧需要它；{hint}",
    # Results.
    "{path}: {frames} frames, {bytes} bytes ({container} of the container), {bpp} bpp (estimate {estimate}), {rate} "
    "kbit/s": "{path}：{frames} 帧，{bytes} 字节（其中容器 {container}），{bpp} bpp（估计 {estimate}），{rate} kbit/s",
    "{result}, asked {target}": "{result}，目标 {target}",
    "{result}, verified": "{result}，已验证",
    "{path}: {frames} frames, {sound}, {bytes} bytes": "{path}：{frames} 帧，{sound}，{bytes} 字节",
    "{count} segments in {folder}; train with --train_video_dir {same}":
        "{folder} 中有 {count} 个片段；用 --train_video_dir {same} 训练",
    "left out: {what}": "舍去：{what}",
    "kept: {kept} of {all} frames": "保留：{all} 帧中的 {kept} 帧",
    "done in {minutes} minutes": "用时 {minutes} 分钟",
}
